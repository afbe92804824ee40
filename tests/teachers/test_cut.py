"""A teacher of more classes than the dataset has."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddist.teachers.cut
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.teachers import Cut
from ddist.teachers.cut import IMAGENET_PLACES


class Thousand(nn.Module):
    """Logits of as many classes as there are pixels in a channel."""

    def __init__(self, num: int = 1000) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((1, num))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.pool(self.norm(x)).mean(1).flatten(1)
        return logits


@pytest.fixture
def make(digits: RealData, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``make(names, **options)``: a teacher of the digits, which are called by ``names``."""
    monkeypatch.setattr(ddist.teachers.cut, "published", lambda *_: Thousand().eval())
    monkeypatch.setattr(ddist.teachers.cut, "own_normalization", lambda *_: ([0.5] * 3, [0.5] * 3))

    def build(names: list[str], **changes: Any) -> Cut:
        options: dict[str, Any] = {
            "model": "any", "weights": None, "classes": None, "class_names": None, "mean": None,
            "std": None, "size": None,
        }  # fmt: skip
        return Cut(source=digits._with(class_names=tuple(names)), **(options | changes))

    return build


PLAIN = [str(digit) for digit in range(10)]


def logits(teacher: Cut, x: Tensor) -> Tensor:
    pixels = teacher.source.normalization.inverse(x).expand(-1, 3, -1, -1)
    with torch.no_grad():
        found: Tensor = Thousand().eval()((pixels - 0.5) / 0.5)
    return found


def test_imagenettes_classes_are_known(make: Any, digits: RealData) -> None:
    names = list(IMAGENET_PLACES)[:10]
    teacher, x = make(names), digits.images(torch.arange(4))
    expected = logits(teacher, x)[:, [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]]
    torch.testing.assert_close(teacher.predict(x), expected)
    torch.testing.assert_close(
        make(names[::-1]).predict(x), expected.flip(1)
    )  # by name, whatever the order


def test_named_and_numbered_classes(make: Any, digits: RealData) -> None:
    x = digits.images(torch.arange(4))
    numbers = [900, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    teacher = make(PLAIN, classes=numbers)
    torch.testing.assert_close(teacher.predict(x), logits(teacher, x)[:, numbers])
    names = [f"class {i}" for i in range(1000)]
    same = make(PLAIN, classes=[names[n] for n in numbers], class_names=names)
    torch.testing.assert_close(same.predict(x), teacher.predict(x))


def test_statistics_are_those_of_its_layers(make: Any, digits: RealData) -> None:
    teacher = make(list(IMAGENET_PLACES)[:10])
    x = digits.images(torch.arange(4)).requires_grad_()
    cut, inputs = teacher.with_inputs(x)
    assert cut.shape == (4, 10) and len(inputs) == 1
    inputs[0][0].square().sum().backward()
    assert x.grad is not None and float(x.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, "Which of the teacher's 1000 classes"),
        ([1, 2], "for each of the 10"),
        ([*range(9), 1000], "numbers from 0 to 999"),
        ([0] * 10, "all different"),
        ([*range(9), "cat"], "names among teacher.class_names"),
    ],
)
def test_other_classes_are_one_sentence(make: Any, classes: Any, expected: str) -> None:
    with pytest.raises(DdistError, match=expected):
        make(PLAIN, classes=classes)
