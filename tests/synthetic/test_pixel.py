"""Pixel: what is learned, and that nothing else is."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ddist.artifact.multiformation import compose
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.seeding import generator
from ddist.synthetic import Pixel, StepSizes

LABELS = torch.arange(10).repeat(2)


def make(data: RealData, **changes: object) -> Pixel:
    options = {
        "start": "noise", "images": "learned", "labels": "hard", "label_logit": 5.0, "factor": 1,
        "bounded": False, "scarce": "refuse",
    }  # fmt: skip
    return Pixel(data, LABELS, generator(0, "test"), **(options | changes))  # type: ignore[arg-type]


def names(module: torch.nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


def test_hard_labels_are_the_classes_and_only_images_are_learned(digits: RealData) -> None:
    pixel = make(digits)
    images, labels = pixel()
    assert images is pixel.images and images.shape == (20, 1, 8, 8)
    assert labels.dtype == torch.int64 and torch.equal(labels, LABELS)
    assert names(pixel) == {"images"}


def test_soft_labels_are_probabilities_that_start_at_the_class(digits: RealData) -> None:
    pixel = make(digits, labels="soft", label_logit=3.0)
    _, labels = pixel()
    torch.testing.assert_close(labels.sum(1), torch.ones(20))
    # softmax of 3 for one's own class and 0 for nine others
    own = torch.tensor(3.0).exp() / (torch.tensor(3.0).exp() + 9)
    torch.testing.assert_close(labels.gather(1, LABELS[:, None])[:, 0], own.expand(20))
    assert names(pixel) == {"images", "label_logits"}


@pytest.mark.parametrize("labels", ["hard", "soft", "given"])
def test_images_of_one_class_are_given_the_label_of_another(digits: RealData, labels: str) -> None:
    pixel = make(digits, labels=labels, label_logit=3.0)
    images, before = pixel()
    pixel.relabel(lambda classes: torch.where(classes == 4, 7, classes))
    assert torch.equal(LABELS, torch.arange(10).repeat(2))  # not ours to change
    wanted = torch.where(LABELS == 4, 7, LABELS)
    torch.testing.assert_close(pixel()[1], before[wanted])  # LABELS begin with 0 .. 9
    torch.testing.assert_close(pixel()[0], images)


def test_soft_labels_are_learned(digits: RealData) -> None:
    pixel = make(digits, labels="soft")
    images, labels = pixel()
    logits = torch.randn(20, 10, generator=generator(0, "logits"))
    (cross_entropy(logits, labels) + images.square().sum()).backward()
    assert pixel.label_logits is not None and pixel.label_logits.grad is not None
    assert pixel.label_logits.grad.abs().max() > 0
    # moving all logits of an image together changes no probability
    torch.testing.assert_close(pixel.label_logits.grad.sum(1), torch.zeros(20), rtol=0, atol=1e-7)


def test_frozen_images_stay(digits: RealData) -> None:
    frozen = {"images": "frozen", "labels": "soft", "start": "real"}
    assert names(make(digits, **frozen)) == {"label_logits"}
    pixel = make(digits, **frozen, step_sizes=StepSizes(1, 2, 0.1))
    assert names(pixel) == {"label_logits", "step_sizes.raw"}


def test_a_checkpoint_restores_images_labels_and_steps(digits: RealData) -> None:
    saved, other = (
        make(digits, labels="soft", start=start, step_sizes=StepSizes(2, 2, size))
        for start, size in (("noise", 0.1), ("real", 0.3))
    )
    other.load_state_dict(saved.state_dict())
    for a, b in zip(saved(), other(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(saved.step_sizes(), other.step_sizes())


def test_an_unknown_start_is_named(digits: RealData) -> None:
    with pytest.raises(DdistError, match=r"synthetic\.start.*noise, real.*zeros"):
        make(digits, start="zeros")


def test_given_labels_are_soft_and_not_learned(digits: RealData) -> None:
    pixel = make(digits, labels="given")
    logits = torch.randn(20, 10, generator=generator(3))
    images = torch.randn(20, *digits.image_shape, generator=generator(4))
    pixel.begin(images, logits)
    torch.testing.assert_close(pixel()[1], logits.softmax(1))
    assert torch.equal(pixel()[0], images)
    assert [name for name, p in pixel.named_parameters() if p.requires_grad] == ["images"]
    with pytest.raises(DdistError, match=r"set synthetic\.labels=soft"):
        make(digits).begin(logits=logits)


@pytest.mark.parametrize(("labels", "learned"), [("free", True), ("solved", False)])
def test_free_labels_are_numbers_that_start_at_the_class(
    digits: RealData, labels: str, learned: bool
) -> None:
    pixel = make(digits, labels=labels)
    found = pixel()[1]
    assert torch.equal(found, torch.eye(10)[LABELS]) and found.requires_grad is learned
    assert names(pixel) == ({"images", "free_labels"} if learned else {"images"})
    assert pixel.label_kind == labels and pixel.label_logits is None
    with torch.no_grad():
        assert pixel.free_labels is not None
        pixel.free_labels.mul_(-3)
    other = make(digits, labels=labels)
    other.load_state_dict(pixel.state_dict())
    assert torch.equal(other.stored()[1], -3 * torch.eye(10)[LABELS])


def test_tiles_begin_where_they_are_told(digits: RealData) -> None:
    pixel = make(digits, labels="soft", factor=2)
    tiles = torch.randn(80, *digits.image_shape, generator=generator(4))
    logits = torch.randn(80, 10, generator=generator(5))
    pixel.begin(tiles, logits)
    torch.testing.assert_close(pixel.stored()[0], compose(tiles, 2))
    means = logits.view(20, 4, 10).mean(1).softmax(1)
    torch.testing.assert_close(pixel()[1], means.repeat_interleave(4, 0))
