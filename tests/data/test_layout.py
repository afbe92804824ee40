"""Which pictures are trained on and which are tested on, whatever the folders are called."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddist.data import RealData
from ddist.data.ondisk import OnDisk
from ddist.data.sources.base import Request
from ddist.data.sources.pictures import decode_pictures
from ddist.errors import DdistError

Factory = Callable[..., RealData]
NAMES = ("ant", "bee")


def paint_classes(folder: Path, count: int, names: Sequence[str] = NAMES, shift: int = 0) -> None:
    """``count`` pictures for each class, no two of which are the same."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            colour = (20 * i + ord(name[0]) % 16, 2 * ord(name[0]), shift + 3 * i + ord(name[0]))
            Image.new("RGB", (4, 4), colour).save(folder / name / f"{i:02d}.png")


def read(real_data: Factory, folder: Path, **source: object) -> RealData:
    return real_data("imagefolder", source={"folder": str(folder), **source}).load()


def colours(x: torch.Tensor | OnDisk) -> set[tuple[int, ...]]:
    assert isinstance(x, torch.Tensor)
    return {tuple(image[:, 0, 0].tolist()) for image in x}


@pytest.mark.parametrize("inside", [".", "train", "Training"])
def test_without_test_pictures_a_share_of_each_class_is_drawn(
    inside: str, real_data: Factory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "pictures"
    paint_classes(folder / inside, 10)
    with caplog.at_level(logging.INFO, "ddist"):
        data = read(real_data, folder)
    assert (data.train.counts, data.test.counts) == ((8, 8), (2, 2))
    assert not colours(data.train.x) & colours(data.test.x)
    assert len(colours(data.train.x) | colours(data.test.x)) == 20
    assert "0.2 of each class, 4 of 20 pictures, are drawn for testing" in caplog.text
    assert data.facts["test_split"] == {"drawn_share": 0.2, "split_seed": 0}

    again = real_data("imagefolder", source={"folder": str(folder)}, seed=7).load()
    assert torch.equal(again.test.x, data.test.x), "the split is the dataset's, not the run's"
    other = read(real_data, folder, split_seed=1)
    assert colours(other.test.x) != colours(data.test.x) and other.test.counts == (2, 2)
    assert read(real_data, folder, test_share=0.5).test.counts == (5, 5)


def test_every_class_keeps_a_training_picture(
    real_data: Factory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint_classes(tmp_path / "p", 1, ["ant"])
    paint_classes(tmp_path / "p", 2, ["bee"])
    paint_classes(tmp_path / "p", 3, ["cat"])
    data = read(real_data, tmp_path / "p", test_share=0.9)
    assert (data.train.counts, data.test.counts) == ((1, 1, 1), (0, 1, 2))
    assert "no test image of 1 of its 3 classes (ant)" in caplog.text
    assert data.facts["untested_classes"] == ["ant"]


def test_a_class_without_test_pictures_is_said(
    real_data: Factory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint_classes(tmp_path / "train", 2)
    paint_classes(tmp_path / "test", 2, ["bee"], shift=9)
    assert read(real_data, tmp_path).test.counts == (0, 2)
    assert "no test image of 1 of its 2 classes (ant)" in caplog.text


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("TRAIN", "Test"), ("training", "testing"), ("train", "valid"),
     ("train", "validation")],
)  # fmt: skip
def test_usual_names(train: str, test: str, real_data: Factory, tmp_path: Path) -> None:
    paint_classes(tmp_path / "p" / train, 3)
    paint_classes(tmp_path / "p" / test, 1, shift=9)
    data = read(real_data, tmp_path / "p")
    assert (data.train.counts, data.test.counts) == ((3, 3), (1, 1))


def test_beside_a_test_folder_validation_pictures_are_left_and_said(
    real_data: Factory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint_classes(tmp_path / "train", 3)
    paint_classes(tmp_path / "test", 2, shift=9)
    paint_classes(tmp_path / "val", 1, shift=19)
    with caplog.at_level(logging.INFO, "ddist"):
        assert read(real_data, tmp_path).test.counts == (2, 2)
    assert f"{tmp_path / 'val'} is not read: {tmp_path / 'test'} has the test" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "ddist"):
        assert read(real_data, tmp_path, test="val").test.counts == (1, 1)
    assert "is not read" not in caplog.text


def link_folder(folder: Path) -> None:
    (folder / "copy").symlink_to(folder / "train")


def link_classes(folder: Path) -> None:
    (folder / "copy").mkdir()
    for name in NAMES:
        (folder / "copy" / name).symlink_to(folder / "train" / name)


def link_files(folder: Path) -> None:
    for name in NAMES:
        (folder / "copy" / name).mkdir(parents=True)
        for path in (folder / "train" / name).iterdir():
            os.link(path, folder / "copy" / name / path.name)


@pytest.mark.parametrize("copy", [None, link_folder, link_classes, link_files])
def test_testing_on_the_training_pictures_is_refused(
    copy: Callable[[Path], None] | None, real_data: Factory, tmp_path: Path
) -> None:
    paint_classes(tmp_path / "p" / "train", 2)
    if copy is not None:
        copy(tmp_path / "p")
    for test in ("train", "../p/train") if copy is None else ("copy",):
        with pytest.raises(DdistError, match=r"testing on those is no test: set dataset\.source"):
            read(real_data, tmp_path / "p", test=test)


def test_some_shared_pictures_are_said(
    real_data: Factory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint_classes(tmp_path / "train", 2)
    paint_classes(tmp_path / "test", 2, shift=9)
    os.link(tmp_path / "train" / "ant" / "00.png", tmp_path / "test" / "ant" / "07.png")
    assert read(real_data, tmp_path).test.counts == (3, 2)
    assert "1 of 5 test pictures are training pictures too, such as" in caplog.text


def test_equal_groups_of_pictures_share_what_is_decoded(tmp_path: Path) -> None:
    """Whose files have the same names; this never came to an end."""
    paint_classes(tmp_path / "p", 3)
    groups = [sorted((tmp_path / "p" / name).iterdir()) for name in ("ant", "bee", "ant")]
    request = Request(tmp_path, tmp_path / "cache", True, False, None, None, False, None)
    x, _ = decode_pictures(groups, request)
    assert len(x) == 9 and x.shards.missing() == []
    found = x.in_memory()
    assert torch.equal(found[:3], found[6:]) and not torch.equal(found[:3], found[3:6])


def test_what_is_no_layout_is_named(real_data: Factory, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DdistError, match=r"at least two classes, but holds no folder: set"):
        read(real_data, tmp_path / "empty")
    paint_classes(tmp_path / "one", 2, ["ant"])
    with pytest.raises(DdistError, match=r"at least two classes, but holds only ant/: set"):
        read(real_data, tmp_path / "one")
    paint_classes(tmp_path / "tested" / "test", 2)
    with pytest.raises(DdistError, match=r"test pictures in test/ but no folder train/"):
        read(real_data, tmp_path / "tested")
    paint_classes(tmp_path / "flat", 2)
    for test in ("train", "test", "ant"):
        with pytest.raises(
            DdistError, match=rf"test={test} goes with a folder .*flat/train, which is not"
        ):
            read(real_data, tmp_path / "flat", test=test)
    paint_classes(tmp_path / "outer" / "inner" / "train", 2)
    with pytest.raises(DdistError, match=r"set dataset\.folder=.*outer/inner"):
        read(real_data, tmp_path / "outer")
    paint_classes(tmp_path / "both" / "train", 2)
    paint_classes(tmp_path / "both" / "training", 2)
    with pytest.raises(DdistError, match="which mean the same: leave one"):
        read(real_data, tmp_path / "both")
