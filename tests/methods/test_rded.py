"""RDED: that the crops are the ones with the least loss, and how they are stitched."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ddist import DistilledDataset
from ddist.augment.crop import RandomResizedCrop
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.methods.rded import RDED, stitch
from ddist.networks import ConvNet
from ddist.seeding import generator
from ddist.teachers import Trained


@pytest.fixture
def teacher(digits: RealData) -> Trained:
    network = ConvNet(10, digits.image_shape, 2, 8, "batch", "avg", "relu")
    return Trained(
        network=network, source=digits, scheme="default", train_per_class=None, epochs=2,
        schedule="cosine", batch_size=64, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4,
        augment=None,
    )  # fmt: skip


@pytest.fixture
def make(common: dict[str, Any], teacher: Trained) -> Callable[..., RDED]:
    def build(**changes: Any) -> RDED:
        options = {"ipc": 2, "teacher": teacher, "factor": 2, "num_crops": 3, "candidates": 20,
                   "scale": (0.2, 1.0), "rank": "surest"}  # fmt: skip
        return RDED(**(common | options | changes))

    return build


@pytest.mark.parametrize("factor", [1, 2])
def test_they_are_the_best_crops_of_the_best_images(
    make: Callable[..., RDED], teacher: Trained, digits: RealData, factor: int
) -> None:
    """By brute force: every crop of every candidate, alone, in the middle of zeros."""
    method, side = make(factor=factor), 8 // factor
    crop = RandomResizedCrop(scale=[0.2, 1.0], ratio=[1.0, 1.0], mirror=False, size=(side, side))
    found = method.tensors()
    assert found["labels"].tolist() == [c for c in range(10) for _ in range(2)]
    for c in (0, 7):
        stream = generator(0, "rded", c)
        members = torch.nonzero(digits.train.y == c)[:, 0]
        chosen = members[torch.randperm(len(members), generator=stream)[:20]]
        x = digits.normalization(digits.train.x[chosen])
        tried = [crop(x, stream) for _ in range(3)]
        scored = []
        for i in range(20):
            losses = []
            for crops in tried:
                alone = torch.zeros(1, 1, 8, 8)
                pad = (8 - side) // 2
                alone[..., pad : pad + side, pad : pad + side] = crops[i]
                with torch.no_grad():
                    losses.append(float(F.cross_entropy(teacher.logits(alone), torch.tensor([c]))))
            scored.append((min(losses), tried[losses.index(min(losses))][i]))
        ranked = [image for _, image in sorted(scored, key=lambda pair: pair[0])]
        for j in range(2):
            tiles = [ranked[j + 2 * k] for k in range(factor**2)]
            rows = [torch.cat(tiles[factor * r : factor * (r + 1)], 2) for r in range(factor)]
            image = found["images"][2 * c + j]
            torch.testing.assert_close(image, torch.cat(rows, 1))


def test_tiles_are_filled_row_by_row_the_best_ones_apart() -> None:
    crops = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 3, 2)
    images = stitch(crops, 2)
    assert images.shape == (2, 1, 6, 4)
    assert images[:, 0, ::3, ::2].tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


def test_all_of_a_class_may_be_candidates(make: Callable[..., RDED], digits: RealData) -> None:
    method = make(candidates=None, factor=1, num_crops=1, scale=(1.0, 1.0))
    x = digits.normalization(digits.train.x[digits.train.y == 3])
    losses = method.losses(x, 3)
    torch.testing.assert_close(method.tensors()["images"][6:8], x[losses.argsort()[:2]])


@pytest.mark.parametrize("count", [10, 11])
def test_the_middle_is_delts(
    make: Callable[..., RDED], teacher: Trained, digits: RealData, count: int
) -> None:
    """store_medium of the authors' data_selection.py: whole images, sorted by the probability of
    their class, from the middle one outwards."""
    method = make(candidates=count, factor=1, num_crops=1, scale=(1.0, 1.0), rank="middle", ipc=6)
    members = torch.nonzero(digits.train.y == 3)[:, 0]
    chosen = members[torch.randperm(len(members), generator=generator(0, "rded", 3))[:count]]
    x = digits.normalization(digits.train.x[chosen])
    ascending = teacher.predict(x).softmax(1)[:, 3].argsort()
    middle, sign, expected = math.ceil(count / 2), -1, []
    for index in range(6):
        expected.append(x[ascending[middle + int(sign * (index + 1) / 2)]])
        sign = -sign
    torch.testing.assert_close(method.tensors()["images"][18:24], torch.stack(expected))


def test_the_seed_decides(make: Callable[..., RDED], common: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    first, again, other = (make(seed=seed).tensors()["images"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"factor": 3}, "method.factor=3 must divide the images' sides, which are 8x8 pixels"),
        ({"ipc": 6}, "ipc=6 takes 24 real images of each class, one for each crop, but method.can"),
        ({"ipc": 40, "candidates": None}, "ipc=40 takes 160 .* the smallest class of digits has 1"),
        ({"scale": (0.5, 2.0)}, "scale is a range such as"),
    ],
)
def test_mistakes_are_sentences(
    make: Callable[..., RDED], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DdistError, match=sentence):
        make(**changes)


QUICK = (
    "method=rded", "dataset=digits", "network.width=8", "network.depth=2", "teacher.epochs=1",
    "method.candidates=20", "evaluation.num_networks=1", "evaluation.epochs=3", "paths.cache=cache",
)  # fmt: skip


def test_a_run_stores_labels_and_another_protocol_has_the_same_teacher(ddist: Any) -> None:
    """One teacher for the crops, the labels, the random images and all evaluations."""
    done = ddist(*QUICK, "method.factor=2", "teacher.store=true", "teacher.top_k=3",
                 "evaluation.labels=own", "hydra.run.dir=run")  # fmt: skip
    assert (done.code, done.err) == (0, ""), done.err
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.meta["label_temperature"] == 20.0 and distilled.meta["label_top_k"] == 3
    assert distilled.labels.dtype == torch.float16 and distilled.factor == 1
    assert done.out.count("Training the teacher") == 1 and "random real images" in done.out
    assert done.out.count("The teacher knows") == 1  # one for the method, the labels, the baseline
    again = ddist(
        "task=evaluate", "artifact=run/distilled", "evaluation=sre2l", "evaluation.num_networks=1",
        "evaluation.epochs=2", "paths.cache=cache", "network=mlp", "hydra.run.dir=other",
    )  # fmt: skip
    assert (again.code, again.err) == (0, ""), again.err
    assert "Training the teacher" not in again.out and "The teacher knows" in again.out
    assert len(list((ddist.folder / "cache" / "teachers").glob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("teacher=none", "This run needs a teacher: choose one, such as teacher=trained."),
        ("teacher=trianed", "Unknown teacher 'trianed' (did you mean trained?)"),
        ("teacher.network=convnet_nb", "Unknown network 'convnet_nb' (did you mean convnet_bn?"),
        ("teacher=file", "Name their file: teacher.weights=FILE."),
        ("ipc=500", "ipc=500 takes 500 real images of each class, one for each crop"),
        ("evaluation.labels=own", "evaluation.temperature=20.0 is for soft labels, which this set"),
        ("synthetic=multiformation", "This method chooses whole images, not 2x2 in each"),
        ("method=random evaluation=dc2021 teacher=trained", "No teacher is asked in this run"),
        ("teacher.store=true teacher.top_k=10 teacher.train_per_class=5 teacher.epochs=1 "
         "network.width=8 method.candidates=5", "teacher.top_k is null or at most 9 of 10 classes"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(ddist: Any, words: str, sentence: str) -> None:
    done = ddist("dataset=digits", *(() if "method=" in words else ("method=rded",)),
                 *words.split(), "paths.cache=cache", "hydra.run.dir=run")  # fmt: skip
    assert done.code == 1 and sentence in done.err
    assert done.err.count("\n") == 1
