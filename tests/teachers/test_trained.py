"""Teachers trained on the bundled digits: what they say, and that they are trained once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ddist.teachers.trained
from ddist.augment.crop import RandomResizedCrop
from ddist.augment.mix import InTurn
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.networks import MLP
from ddist.teachers import Trained

Make = Callable[..., Trained]


def crop(**changes: Any) -> InTurn:
    options = {"scale": [0.5, 1.0], "ratio": [1.0, 1.0], "mirror": False, **changes}
    return InTurn(crop=RandomResizedCrop(**options))


def test_it_knows_the_digits_and_keeps_its_statistics(make_teacher: Make, digits: RealData) -> None:
    teacher = make_teacher()
    x = digits.normalization(digits.test.x)
    logits = teacher.predict(x)
    assert float((logits.argmax(1) == digits.test.y).float().mean()) > 0.8
    assert not teacher.network.training and not logits.requires_grad
    (norm, _) = teacher.batch_norms()
    assert norm.num_batches_tracked == 3 * -(-len(digits.train) // 64)
    # the mean of what the first layer gave while it was trained
    assert float((norm.running_mean - 0).abs().max()) > 1e-3
    torch.testing.assert_close(teacher.probabilities(x, 20.0), (teacher.network(x) / 20).softmax(1))
    given = torch.zeros(2, 1, 8, 8, requires_grad=True)
    assert torch.autograd.grad(teacher.logits(given).sum(), given)[0].abs().max() > 0


def test_what_comes_into_its_batch_normalisation(make_teacher: Make, digits: RealData) -> None:
    teacher, x = make_teacher(), digits.normalization(digits.test.x[:7])
    logits, inputs = teacher.with_inputs(x)
    torch.testing.assert_close(logits, teacher.predict(x))
    body = [m for m in teacher.network.body.modules() if not list(m.children())]
    (first, second) = (i for i, layer in enumerate(body) if isinstance(layer, nn.BatchNorm2d))
    for at, (found, mean, variance) in zip((first, second), inputs, strict=True):
        torch.testing.assert_close(found, nn.Sequential(*body[:at])(x))
        assert mean is body[at].running_mean and variance is body[at].running_var
    assert not any(layer._forward_pre_hooks for layer in body)


def test_it_is_trained_once_for_all(
    make_teacher: Make, digits: RealData, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = digits.normalization(digits.test.x)
    first = make_teacher().predict(x)
    monkeypatch.setattr(ddist.teachers.trained, "fit", None)
    assert torch.equal(make_teacher().predict(x), first)


def test_killed_while_it_is_trained_it_leaves_nothing_and_starts_again(
    make_teacher: Make, digits: RealData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, progress: Callable[[int, int], None], **options: Any) -> None:
        raise KeyboardInterrupt

    x, folder = digits.normalization(digits.test.x), digits.cache / "teachers"
    with monkeypatch.context() as patch:
        patch.setattr(ddist.teachers.trained, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            make_teacher().predict(x)
    assert not list(folder.glob("*.safetensors*")) or all(
        path.suffix == ".lock" for path in folder.iterdir()
    )
    again = make_teacher().predict(x)
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])  # a full disk, say
    assert torch.equal(make_teacher().predict(x), again)


def test_the_signature_covers_what_changes_it(make_teacher: Make, digits: RealData) -> None:
    base = make_teacher().signature()
    assert base == make_teacher().signature() and len(base) == 8
    others = [
        {"epochs": 4}, {"lr": 0.05}, {"schedule": "constant"}, {"scheme": "xavier_normal"},
        {"train_per_class": 50}, {"augment": crop()}, {"augment": crop(scale=[0.6, 1.0])},
        {"network": MLP(10, digits.image_shape, [8], "relu")},
    ]  # fmt: skip
    assert len({base, *(make_teacher(**each).signature() for each in others)}) == 9


def test_augmented_on_a_few_images(make_teacher: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fit = ddist.teachers.trained.fit

    def noted(*args: Any, **options: Any) -> Any:
        seen.append((len(args[2]), repr(options["augment"])))
        return fit(*args, **options)

    monkeypatch.setattr(ddist.teachers.trained, "fit", noted)
    assert make_teacher(train_per_class=20, augment=crop(), epochs=1).network is not None
    assert seen == [(200, repr(crop()))]


def test_mistakes_are_sentences(make_teacher: Make) -> None:
    with pytest.raises(DdistError, match="cannot be a teacher on digits"):
        make_teacher(network=MLP(10, (1, 9, 9), [8], "relu"))
    with pytest.raises(DdistError, match=r"diverged: lower teacher\.lr"):
        make_teacher(lr=1e12, epochs=2).predict(torch.zeros(1, 1, 8, 8))
