from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddist.data import RealData
from ddist.data.sources import pictures
from ddist.errors import DdistError

Factory = Callable[..., RealData]
RANDOM = np.random.default_rng(0)


def paint(path: Path, width: int = 8, height: int = 8) -> torch.Tensor:
    """Writes a random picture and gives its pixels [3, H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for part in ("train", "val"):
        for name in ("zebra", "ant"):
            for i in range(3):
                paint(root / part / name / f"{i}.png")
    return root


def read(real_data: Factory, folder: Path, size: int | None = None, fit: str = "crop") -> RealData:
    return real_data("imagefolder", source={"folder": str(folder), "fit": fit}, size=size).load()


def test_labels_follow_the_sorted_names(real_data: Factory, folder: Path) -> None:
    marked = paint(folder / "train" / "zebra" / "sub" / "9.png")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "ant" / "notes.txt").write_text("no picture")
    data = read(real_data, folder)
    assert data.class_names == ("ant", "zebra")
    assert (data.train.counts, data.test.counts) == ((3, 4), (3, 3))
    assert torch.equal(data.train.x[-1], marked)


def test_size_resizes_the_shorter_side_and_crops_the_centre(tmp_path: Path) -> None:
    pixels = paint(tmp_path / "wide.png", width=20, height=10)
    assert torch.equal(pictures.decode(tmp_path / "wide.png", 10), pixels[:, :, 5:15])
    for width, height in ((7, 31), (31, 7), (1, 1)):
        paint(tmp_path / "odd.png", width, height)
        assert pictures.decode(tmp_path / "odd.png", 5).shape == (3, 5, 5)


def test_squashed_pictures_are_whole(real_data: Factory, folder: Path, tmp_path: Path) -> None:
    """White where the left half of a wide picture is: in the left half of the square."""
    for number in range(4):
        wide = Image.new("RGB", (24, 8), "black")
        wide.paste("white", (0, 0, 12, 8))
        wide.save(folder / "train" / "ant" / f"wide{number}.png")
    squashed = read(real_data, folder, size=8, fit="squash")
    cropped = read(real_data, folder, size=8)
    expected = torch.zeros(3, 8, 8, dtype=torch.uint8)
    expected[:, :, :4] = 255
    inside = [0, 1, 2, 5, 6, 7]  # the edge is blurred
    x = squashed.train.x[squashed.train.y == 0]
    matches = (x[..., inside] == expected[..., inside]).flatten(1).all(1)
    assert matches.sum() == 4
    assert not torch.equal(cropped.train.x, squashed.train.x)  # decoded apart


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "1"):
        Image.new(mode, (4, 4), 1 if mode == "1" else None).save(tmp_path / f"{mode}.png")
        assert pictures.decode(tmp_path / f"{mode}.png", None).shape == (3, 4, 4)


def test_pictures_are_decoded_once_and_again_when_one_changes(
    real_data: Factory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(real_data, folder)
    decoded: list[Path] = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda p, *a: (decoded.append(p), decode(p, *a))[1])
    assert torch.equal(read(real_data, folder).train.x, first.train.x)
    assert not decoded
    changed = paint(folder / "train" / "ant" / "0.png", 8, 8)
    assert torch.equal(read(real_data, folder).train.x[0], changed)
    assert decoded


def test_mistakes_are_named(
    real_data: Factory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DdistError, match=r"needs a folder: set dataset\.folder"):
        real_data("imagefolder").load()
    with pytest.raises(DdistError, match=r"There is no folder .*nowhere"):
        read(real_data, folder / "nowhere")
    (folder / "train" / "empty").mkdir()
    with pytest.raises(DdistError, match=r"class 1 \(empty\) has no training image"):
        read(real_data, folder)
    (folder / "train" / "empty").rmdir()
    (folder / "val" / "bee").mkdir()
    with pytest.raises(DdistError, match="has the class 'bee', which"):
        read(real_data, folder)
    (folder / "val" / "bee").rmdir()
    paint(folder / "train" / "ant" / "large.png", 9, 8)
    assert read(real_data, folder, size=8).image_shape == (3, 8, 8)
    (folder / "train" / "ant" / "large.png").write_bytes(b"no picture")
    with pytest.raises(DdistError, match=r"large\.png cannot be decoded"):
        read(real_data, folder)
    (folder / "train" / "ant" / "large.png").unlink()

    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(DdistError, match=r"pictures need .*, but 1\.0 kB .*smaller dataset\.size"):
        read(real_data, folder, size=7)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for name in ("n02", "n01"):
        for i in range(2):
            paint(root / "train" / name / "images" / f"{name}_{i}.JPEG")
    for i in range(4):
        paint(root / "val" / "images" / f"val_{i}.JPEG")
    (root / "val" / "val_annotations.txt").write_text(
        "".join(f"val_{i}.JPEG\tn0{1 + i // 2}\t0\t32\t44\t62\n" for i in range(4))
    )
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn03\tother\n")
    return root


def test_tiny_imagenet_layout(real_data: Factory, tiny: Path) -> None:
    data = real_data("tiny_imagenet", verify=False).load()
    assert data.class_names == ("goldfish", "n02")
    assert (data.train.counts, data.test.counts) == ((2, 2), (2, 2))
    expected = pictures.decode(tiny / "val" / "images" / "val_2.JPEG", None)
    assert torch.equal(data.test.x[2], expected)
    (tiny / "val" / "val_annotations.txt").unlink()  # as many rearrange it
    for i in range(2):
        paint(tiny / "val" / f"n0{i + 1}" / "0.JPEG")
    assert real_data("tiny_imagenet", verify=False).load().test.counts == (1, 1)


def test_tiny_imagenet_mistakes_are_named(real_data: Factory, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DdistError, match=r"expected 200 classes.*got 2, 4 and 4.*verify=false"):
        real_data("tiny_imagenet").load()
    with pytest.raises(DdistError, match=r"tiny_imagenet is not in .*download=true"):
        real_data("tiny_imagenet", root=tmp_path / "elsewhere").load()
    (tiny / "val" / "images" / "val_0.JPEG").unlink()
    with pytest.raises(DdistError, match=r"val_0\.JPEG is missing"):
        real_data("tiny_imagenet", verify=False).load()
    (tiny / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn09\t0\t0\t1\t1\n")
    with pytest.raises(DdistError, match="unknown class 'n09'"):
        real_data("tiny_imagenet", verify=False).load()
