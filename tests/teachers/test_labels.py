"""Labels that a teacher leaves in the artifact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddist.artifact.card import card
from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.seeding import generator
from ddist.synthetic.start import real
from ddist.teachers import Trained, with_labels


@pytest.fixture
def distilled(digits: RealData) -> DistilledDataset:
    labels = torch.arange(10).repeat_interleave(2)
    return DistilledDataset(
        images=real(digits, labels, generator(0, "test")),
        labels=labels,
        normalization=digits.normalization.state(),
        meta={"dataset": "digits", "method": "random", "ipc": 2, "num_classes": 10,
              "class_names": digits.class_names, "image_shape": digits.image_shape},
        config="",
    )  # fmt: skip


@pytest.mark.parametrize("top_k", [None, 3])
def test_they_are_the_teachers_in_half_precision(
    distilled: DistilledDataset, make_teacher: Callable[..., Trained], tmp_path: Path, top_k: Any
) -> None:
    teacher = make_teacher()
    expected = (teacher.predict(distilled.images) / 20).softmax(1)
    found = with_labels(distilled, teacher, 20.0, top_k)
    loaded = DistilledDataset.load(found.save(tmp_path / "distilled"))
    assert found.labels.dtype == loaded.labels.dtype == torch.float16
    assert torch.equal(found.labels, loaded.labels)
    if top_k is not None:
        kept, at = expected.topk(top_k)
        rest = (1 - kept.sum(1, keepdim=True)) / (10 - top_k)
        expected = rest.expand(20, 10).scatter(1, at, kept)
    for each in (found, loaded):
        _, labels, _ = each.examples(temperature=20.0)
        torch.testing.assert_close(labels, expected, rtol=2e-3, atol=0)
        torch.testing.assert_close(labels.sum(1), torch.ones(20))
    if top_k is None:
        hot = teacher.predict(distilled.images).softmax(1)
        torch.testing.assert_close(loaded.as_dataset().tensors[1], hot, rtol=0.02, atol=0.01)


def test_their_bytes_count(
    distilled: DistilledDataset, make_teacher: Callable[..., Trained], tmp_path: Path
) -> None:
    images, teacher = 20 * 64 * 4, make_teacher()
    assert distilled.num_bytes == images + 20 * 8
    for top_k, size in ((None, 10 * 2), (3, 3 * (2 + 1))):
        found = with_labels(distilled, teacher, 20.0, top_k)
        loaded = DistilledDataset.load(found.save(tmp_path / "distilled"))
        assert found.num_bytes == loaded.num_bytes == loaded.meta["bytes"] == images + 20 * size


def test_the_card_says_so_and_older_readers_are_told(
    distilled: DistilledDataset, make_teacher: Callable[..., Trained], tmp_path: Path
) -> None:
    found = with_labels(distilled, make_teacher(), 20.0, 3)
    text = " ".join(card(found).split())
    assert "a teacher's at temperature 20, in half precision, the 3 largest of each image:" in text
    assert "kernel regression" not in text and "teacher" not in card(distilled)
    schemas = [
        DistilledDataset.load(each.save(tmp_path / "distilled")).meta["schema"]
        for each in (distilled, found)
    ]
    assert schemas == [1, 2]


def test_mistakes_are_sentences(
    distilled: DistilledDataset, make_teacher: Callable[..., Trained]
) -> None:
    teacher = make_teacher()
    with pytest.raises(DdistError, match=r"top_k is null or at most 9 of 10 classes, not 10"):
        with_labels(distilled, teacher, 20.0, 10)
    distilled.meta["factor"] = 2
    with pytest.raises(DdistError, match="labels whole images, not 2x2 in each"):
        with_labels(distilled, teacher, 20.0, None)
    for wrong in ({"label_temperature": "hot"}, {"label_top_k": 10}):
        with pytest.raises(DdistError, match="Not a usable distilled dataset: expected a label_"):
            DistilledDataset(**{**vars(distilled), "meta": {**distilled.meta, **wrong}})
