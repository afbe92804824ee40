"""Damaged pictures: all named at once, or left out; what is kept on disk stays right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddist.data import RealData
from ddist.data.ondisk import OnDisk
from ddist.data.sources import boxes, pictures
from ddist.errors import DdistError
from ddist.exchange.foreign import read_folder

Factory = Callable[..., RealData]
COUNTS = {"ant": 5, "bee": 4}
RANDOM = np.random.default_rng(0)


def paint(path: Path) -> torch.Tensor:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(256, size=(6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pictures, "SHARD_BYTES", 2 * 3 * 6 * 6)  # two pictures to a file
    for part in ("train", "test"):
        for name, count in COUNTS.items():
            for number in range(count):
                paint(tmp_path / "pictures" / part / name / f"{number}.png")
    return tmp_path / "pictures"


def damage(folder: Path) -> list[Path]:
    """One picture cut off, one empty, one that is text, one missing."""
    cut, empty, text, lost = (
        folder / name
        for name in ("train/ant/1.png", "train/bee/3.png", "test/ant/0.png", "test/bee/2.png")
    )
    content = bytearray(cut.read_bytes())
    cut.write_bytes(content[: len(content) // 2])
    empty.write_bytes(b"")
    text.write_text("no picture")
    lost.unlink()
    lost.symlink_to(folder / "gone.png")
    return [cut, empty, text, lost]


@pytest.fixture
def read(real_data: Factory, folder: Path) -> Callable[..., RealData]:
    def build(skip: bool = False, in_memory: float = 256, **source: object) -> RealData:
        source = {"folder": str(folder), "in_memory": in_memory, **source}
        options = {"skip_damaged": skip, "normalize": "none"}
        return real_data("imagefolder", source=source, **options).load()

    return build


def test_all_are_named_at_once(read: Callable[..., RealData], folder: Path) -> None:
    cut, empty, text, lost = damage(folder)
    with pytest.raises(DdistError, match=r"bee/2\.png is missing: mend or remove it, or leave it"):
        read()  # before anything is decoded
    lost.unlink()
    paint(lost)
    with pytest.raises(DdistError) as raised:
        read()
    sentence = str(raised.value)
    assert sentence.startswith("3 of 18 pictures are damaged: ")
    assert f"{cut} cannot be decoded (" in sentence and f"{empty} is empty" in sentence
    assert f"{text} cannot be decoded (of no format that Pillow reads)" in sentence
    assert sentence.endswith("mend or remove them, or leave them out by dataset.skip_damaged=true.")
    with pytest.raises(DdistError, match=r"^3 of 18"):
        read()  # again, from what is kept


@pytest.mark.parametrize("in_memory", [0, 256])
def test_they_are_left_out_on_demand(
    read: Callable[..., RealData], folder: Path, in_memory: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read()
    damage(folder)
    for _ in range(2):  # decoded, and from what is kept
        caplog.clear()
        data = read(skip=True, in_memory=in_memory)
        assert isinstance(data.train.x, OnDisk) == (in_memory == 0)
        assert (data.train.counts, data.test.counts) == ((4, 3), (4, 3))
        assert torch.equal(data.train.x[:], whole.train.x[[0, 2, 3, 4, 5, 6, 7]])
        assert torch.equal(data.test.x[:], whole.test.x[[1, 2, 3, 4, 5, 6, 8]])
        assert "Left out 4 of 18 pictures, which are damaged" in caplog.text
        assert "train/bee/3.png is empty" in caplog.text
    assert data.fingerprint() != whole.fingerprint()


def test_a_mended_picture_is_read(read: Callable[..., RealData], folder: Path) -> None:
    (broken := folder / "train" / "bee" / "3.png").write_bytes(b"")
    assert read(skip=True).train.counts == (5, 3)
    mended = paint(broken)
    assert torch.equal(read().train.x[-1], mended)


def test_a_lost_record_of_what_is_damaged_is_made_anew(
    read: Callable[..., RealData], folder: Path
) -> None:
    """Without it the rows of damaged pictures would be black pictures."""
    (folder / "train" / "bee" / "3.png").write_bytes(b"")
    expected = read(skip=True).train.x
    for record in (read(skip=True).cache / "decoded").rglob("*.damaged.json"):
        record.unlink()
    assert torch.equal(read(skip=True).train.x, expected)
    for record in (read(skip=True).cache / "decoded").rglob("*.damaged.json"):
        record.write_text("[")
    with pytest.raises(DdistError, match=r"bee/3\.png is empty"):
        read()


def test_a_class_without_any_other_is_the_usual_error(
    read: Callable[..., RealData], folder: Path
) -> None:
    for file in (folder / "train" / "bee").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DdistError, match=r"class 1 \(bee\) has no training image: put pictures"):
        read(skip=True)


def test_many_are_counted_and_all_listed(
    read: Callable[..., RealData], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = sorted((folder / "train").rglob("*.png"))
    for file in files[:7]:
        file.write_bytes(b"")
    with pytest.raises(DdistError, match=r"7 of 18 .*4\.png is empty … and 2 more; mend or remove"):
        read()
    assert all(f"{file} is empty" in caplog.text for file in files[:7])


def test_what_was_decoded_otherwise_is_not_read_again(
    read: Callable[..., RealData], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = np.zeros((6, 6, 4), np.uint8)
    Image.fromarray(alpha).save(folder / "train" / "ant" / "0.png")
    with monkeypatch.context() as patch:  # as an earlier version would have kept it
        patch.setattr(pictures, "DECODER", pictures.DECODER - 1)
        patch.setattr(pictures, "decode", lambda *_: torch.full((3, 6, 6), 7, dtype=torch.uint8))
        assert read().train.x.unique().tolist() == [7]
    assert read().train.x[0].unique().tolist() == [255]
    assert read(background="black").train.x[0].unique().tolist() == [0]
    assert read(background="rgb(9,9,9)", in_memory=0).train.x[:1].unique().tolist() == [9]


def test_an_import_names_all_damaged_pictures(folder: Path) -> None:
    cut, empty, *_ = damage(folder)
    with pytest.raises(
        DdistError, match=r"^2 of 9 pictures are damaged: .*; mend or remove them.$"
    ):
        read_folder(folder, ["ant", "bee"], 3)
    cut.unlink()
    empty.unlink()
    assert len(read_folder(folder, ["ant", "bee"], 3).labels) == 7


def test_crops_of_damaged_pictures_are_named_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        paint(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"")
    crops = [(tmp_path / f"{k // 2}.png", (k, 0, 6, 6 - k % 2), k) for k in range(6)]
    request = pictures.Request(tmp_path, tmp_path / "cache", True, False, 3, None, False, None)
    with pytest.raises(DdistError, match=r"1\.png is empty: mend or remove it, or leave it out"):
        boxes.decode_crops(crops, request, 3)
    skipping = pictures.Request(tmp_path, tmp_path / "cache", True, False, 3, None, True, None)
    for _ in range(2):
        x, kept = boxes.decode_crops(crops, skipping, 3)
        assert x.shape == (4, 3, 3, 3) and kept.tolist() == [0, 1, 4, 5]
    assert caplog.text.count("Left out 1 of 3 pictures") == 2
