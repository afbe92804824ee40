"""Images that are stored as something else: more of them, in no more bytes."""

from typing import Any

import pytest
import torch

from ddist.artifact.codes import Bases, Code, Field, Frequency, LowRank, Pixels
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.synthetic import Coded
from ddist.synthetic.start import start_images
from tests.pixel import pixel

CODES: dict[str, tuple[Code, int]] = {
    "frequency": (Frequency(), 4), "lowrank": (LowRank(), 2), "bases": (Bases(shrink=2), 3),
    "field": (Field(frequency=10.0, fit_steps=500), 2), "mirrored": (Pixels(), 1),
}  # fmt: skip


def make(data: RealData, name: str = "frequency", **changes: Any) -> Coded:
    code, copies = CODES[name]
    options = {"code": code, "copies": copies, "mirror": name == "mirrored", "rate": 1.0}
    settings = pixel(start="real").keywords | options | changes
    labels = torch.arange(10).repeat_interleave(2)
    data.mirror = True
    return Coded(data, labels, torch.Generator().manual_seed(0), **settings)


@pytest.mark.parametrize("name", CODES)
def test_they_are_more_images_in_no_more_bytes(digits: RealData, name: str) -> None:
    synthetic = make(digits, name)
    each = CODES[name][1] * (2 if name == "mirrored" else 1)
    images, labels = synthetic()
    assert images.shape == (20 * each, 1, 8, 8) and synthetic.examples_each == each
    assert labels.tolist() == synthetic.classes.tolist() == [c for c in range(10) for _ in
                                                             range(2 * each)]  # fmt: skip
    file = synthetic.file()
    assert file is not None
    assert sum(value.nbytes for value in file.tensors.values()) <= 20 * 64 * 4


@pytest.mark.parametrize(
    ("name", "share"),
    [("frequency", 0.3), ("lowrank", 0.2), ("bases", 0.5), ("field", 0.6), ("mirrored", 0.0)],
)
def test_they_start_at_real_images(digits: RealData, name: str, share: float) -> None:
    """Of which they miss the named share of the variance at most: all different, of their class."""
    synthetic = make(digits, name)
    images = synthetic()[0].detach()[:: 2 if name == "mirrored" else 1]
    labels = torch.arange(10).repeat_interleave(2 * CODES[name][1])
    real = start_images("real", digits, labels, torch.Generator().manual_seed(0))
    missed = float((images - real).square().mean() / real.var())
    assert share / 4 <= missed <= share or missed < 1e-10


@pytest.mark.parametrize("name", CODES)
def test_the_code_is_all_that_is_learned(digits: RealData, name: str) -> None:
    synthetic = make(digits, name)
    learned = {key: p for key, p in synthetic.named_parameters() if p.requires_grad}
    assert {key.partition(".")[0] for key in learned} == {"codes"}
    synthetic()[0].square().sum().backward()
    for parameter in learned.values():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in make(digits, name, images="frozen").parameters())


def test_a_rate_scales_how_far_the_code_moves(digits: RealData) -> None:
    one, ten = make(digits), make(digits, rate=10.0)
    torch.testing.assert_close(one()[0], ten()[0])
    for synthetic in (one, ten):
        with torch.no_grad():
            synthetic.codes["coefficients"] += 0.01
    before = make(digits)()[0]
    torch.testing.assert_close(10 * (one()[0] - before), ten()[0] - before)


@pytest.mark.parametrize("factor", [1, 2])
def test_images_that_a_method_begins_with_are_shown(digits: RealData, factor: int) -> None:
    mirrored = make(digits, "mirrored", factor=factor)
    wanted = mirrored()[0].detach().roll(1, 2)
    assert wanted.shape[0] == 20 * 2 * factor**2 == len(mirrored.classes)
    mirrored.begin(images=wanted)
    shown = mirrored()[0].detach().unflatten(0, (20, 2, factor**2))
    torch.testing.assert_close(mirrored.stored()[0][1::2], mirrored.stored()[0][::2].flip(3))
    # As plain images would show them.
    labels = torch.arange(10).repeat_interleave(2)
    plain = pixel(start="real", factor=factor)(digits, labels, torch.Generator())
    plain.begin(images=wanted.unflatten(0, (20, 2, factor**2))[:, 0].flatten(0, 1))
    torch.testing.assert_close(shown[:, 0].flatten(0, 1), plain()[0].detach())


def test_labels_of_an_image_and_of_its_mirror_image_are_one(digits: RealData) -> None:
    synthetic = make(digits, "mirrored", labels="soft")
    assert synthetic.label_logits is not None and synthetic.label_logits.shape == (20, 10)
    logits = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    synthetic.begin(logits=logits)
    torch.testing.assert_close(
        synthetic.label_logits.detach(), logits.unflatten(0, (-1, 2)).mean(1)
    )
    labels = synthetic()[1]
    assert labels.shape == (40, 10) and torch.equal(labels[::2], labels[1::2])


def test_digits_are_not_mirrored(digits: RealData) -> None:
    labels = torch.arange(10)
    settings = pixel().keywords | {"code": Pixels(), "copies": 1, "mirror": True, "rate": 1.0}
    with pytest.raises(DdistError, match=r"of another class \(dataset.mirror=false\)"):
        Coded(digits, labels, torch.Generator(), **settings)


def test_bounds_are_refused(digits: RealData) -> None:
    with pytest.raises(DdistError, match=r"synthetic.bounded=false"):
        make(digits, bounded=True)
