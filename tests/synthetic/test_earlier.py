"""An earlier distilled set as a start, on the bundled digits (real data, offline)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ddist import DistilledDataset
from ddist.artifact.normalization import MeanStd, Normalization, Unit
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.synthetic import Pixel, StepSizes
from ddist.synthetic.steps import spread_over_steps

CLASSES = torch.arange(10).repeat_interleave(2)


def pixel(digits: RealData, start: Path, classes: torch.Tensor = CLASSES, **changes: Any) -> Pixel:
    options = {"images": "learned", "labels": "hard", "label_logit": 5.0, "factor": 1,
               "bounded": False, "scarce": "refuse", **changes}  # fmt: skip
    return Pixel(digits, classes, torch.Generator(), start=str(start), **options)


def kept(digits: RealData, folder: Path, labels: torch.Tensor = CLASSES, **changes: Any) -> Path:
    """A set of 20 images in the digits' own normalisation, of noise."""
    meta = {"dataset": "digits", "method": "dm", "ipc": 2, "num_classes": 10, "factor": 1,
            "class_names": list(digits.class_names), "image_shape": [1, 8, 8]}  # fmt: skip
    options: dict[str, Any] = {
        "images": torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
        "labels": labels,
        "normalization": digits.normalization.state(),
        "config": "",
    }
    meta |= changes.pop("meta", {})
    return DistilledDataset(**options | changes, meta=meta).save(folder)


def test_images_are_taken_as_they_are(digits: RealData, tmp_path: Path) -> None:
    folder = kept(digits, tmp_path / "run" / "distilled")
    images = DistilledDataset.load(folder).images
    for start in (folder, tmp_path / "run"):
        assert torch.equal(pixel(digits, start).stored()[0], images)
    found = pixel(digits, folder)
    found.begin(images=torch.zeros(20, 1, 8, 8))  # a method that would know better
    assert torch.equal(found.stored()[0], images)


def test_a_ready_made_set_starts_by_its_name(digits: RealData) -> None:
    ready = DistilledDataset.load("digits-1")
    started = pixel(digits, Path("digits-1"), torch.arange(10)).stored()[0]
    had = Normalization.from_state(ready.normalization)
    torch.testing.assert_close(digits.normalization.inverse(started), had.inverse(ready.images))


def test_images_of_another_normalisation_have_the_same_pixels(
    digits: RealData, tmp_path: Path
) -> None:
    for name, had in {
        "unit": Unit(),
        "own": MeanStd(torch.tensor([0.2]), torch.tensor([3.0])),
    }.items():
        folder = kept(digits, tmp_path / name, normalization=had.state())
        pixels = had.inverse(DistilledDataset.load(folder).images)
        found = digits.normalization.inverse(pixel(digits, folder).stored()[0])
        torch.testing.assert_close(found, pixels)


def test_each_image_goes_to_a_place_of_its_class(digits: RealData, tmp_path: Path) -> None:
    """From an order by class to one by step, and back."""
    by_step, _ = spread_over_steps(2, 10, 2)
    for had, wanted in ((CLASSES, by_step), (by_step, CLASSES)):
        images = had.float().view(-1, 1, 1, 1).expand(20, 1, 8, 8).clone()
        images[:, 0, 0, 0] = torch.arange(20)  # two of a class stay in their order
        folder = kept(digits, tmp_path / "set", had, images=images)
        found = pixel(digits, folder, wanted).stored()[0]
        assert torch.equal(found[:, 0, 1, 1].long(), wanted)
        for c in range(10):
            first, second = found[wanted == c, 0, 0, 0]
            assert first < second


@pytest.mark.parametrize("kind", ["soft", "free"])
def test_labels_are_taken_where_labels_are_learned(
    digits: RealData, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = torch.rand(20, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    folder = kept(digits, tmp_path / "set", labels)
    with caplog.at_level("INFO", "ddist"):
        found, hard = pixel(digits, folder, labels=kind), pixel(digits, folder)
    torch.testing.assert_close(found.stored()[1], labels)
    if kind == "soft":
        found.begin(logits=torch.zeros(20, 10))
        torch.testing.assert_close(found.stored()[1], labels)
    assert torch.equal(hard.stored()[1], CLASSES)
    assert caplog.messages == [
        f"Starting from the images and labels of {folder}.",
        f"Starting from the images of {folder}; its labels do not fit this run's.",
    ]


def test_step_sizes_are_taken_where_there_are_as_many(digits: RealData, tmp_path: Path) -> None:
    by_step, index = spread_over_steps(2, 10, 2)
    sizes = torch.tensor([[0.1, 0.2], [0.3, 20.0], [1e-3, 0.6]])
    folder = kept(digits, tmp_path / "set", by_step, step_index=index, step_sizes=sizes)
    same, fewer = StepSizes(3, 2, 0.02), StepSizes(1, 2, 0.02)
    for steps in (same, fewer):
        pixel(digits, folder, by_step, step_sizes=steps)
    torch.testing.assert_close(same(), sizes)
    torch.testing.assert_close(fewer(), torch.full((1, 2), 0.02))


def test_what_does_not_fit_is_said(digits: RealData, tmp_path: Path) -> None:
    folder = kept(digits, tmp_path / "set")
    with pytest.raises(DdistError, match=r"has 2 images per class, but this run 3: set ipc=2"):
        pixel(digits, folder, torch.arange(10).repeat_interleave(3))
    with pytest.raises(DdistError, match=r"1x1 training .* this run 2x2: set synthetic.factor=1"):
        pixel(digits, folder, factor=2)
    names = [*digits.class_names[:9], "ten"]
    other = kept(digits, tmp_path / "other", meta={"class_names": names})
    with pytest.raises(DdistError, match=r"of 10 classes, but digits has .* a set of this dataset"):
        pixel(digits, other)
    with pytest.raises(DdistError, match=r"Could not load"):
        pixel(digits, tmp_path)
