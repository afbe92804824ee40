"""Which files of a folder are read: all that Pillow can open, and no others; what is left out is
said."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from ddist.data import RealData
from ddist.data.sources import listing
from ddist.data.sources.listing import class_folders, find_pictures, list_files
from ddist.errors import DdistError

Factory = Callable[..., RealData]
RANDOM = np.random.default_rng(0)


def paint(path: Path, format_name: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format_name)
    return path


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in list_files(folder).pictures]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            for number in range(2):
                paint(root / part / name / f"{number}.png")
    return root


def test_what_pillow_can_open_is_read_whatever_its_name(tmp_path: Path) -> None:
    formats = {
        "a.jfif": "JPEG", "b": "PNG", "c.JPG": "JPEG", "d.JPG.png": "JPEG", "e.PnG": "PNG",
        "f.webp": "WEBP", "g.download": "GIF", "h.dat": "TGA", "i.jp2": "JPEG2000",
        "j.bmp.txt": "BMP", "k.ico": "ICO", "l.0": "TIFF", "sub/a.tga": "TGA",
    }  # fmt: skip
    for name, format_name in formats.items():
        paint(tmp_path / name, format_name)
    assert names(tmp_path) == list(formats)


def test_what_is_no_picture_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {
        "a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "b.txt": b"width: 10\nheight: 10\n",
        "c": b"",
        "d.json": b"{}",
        "e.mpg": b"\0\0\x01\xb3" + 200 * b"\x10",
        "f.pdf": b"%PDF-1.4\n",
        "g.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "h.npy": b"\x93NUMPY\x01\0v\0{'descr'",
        "i.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "j.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "k.csv": b"a,b\n1,2\n",
        "l.bin": bytes(1000),
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "m.png")
    paint(tmp_path / "z.png")
    assert find_pictures(tmp_path) == [tmp_path / "z.png"]
    assert [path.name for path in list_files(tmp_path).left_out] == [*sorted(others), "m.png"]
    assert "Left out 13 files in" in caplog.text
    assert "cannot open as pictures: a.heic, b.txt, c, d.json, e.mpg … and 8 more" in caplog.text
    assert "for .heic install the package pillow-heif" in caplog.text


def test_a_damaged_picture_is_not_left_out(tmp_path: Path) -> None:
    """It is said where it is decoded."""
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.JPG").write_text("no picture")
    content = paint(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-99])
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "gone.txt")
    assert names(tmp_path) == ["cut", "empty.png", "nowhere.png", "text.JPG", "whole.jpg"]
    assert list_files(tmp_path).left_out == [tmp_path / "nowhere.txt"]


@pytest.mark.parametrize(
    "litter",
    [".ipynb_checkpoints/0-checkpoint.png", "._0.png", ".hidden.png", "Thumbs.db", "ehthumbs.db",
     "desktop.ini", "Desktop.ini", "__MACOSX/0.png", ".DS_Store", "@eaDir/0.png",
     ".thumbnails/0.png", "$RECYCLE.BIN/0.png", "__pycache__/0.pyc"],
)  # fmt: skip
def test_hidden_and_the_systems_own_are_no_pictures_and_no_classes(
    litter: str, folder: Path, real_data: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    for place in (folder, folder / "train", folder / "test", folder / "train" / "ant"):
        if litter.endswith(".png"):
            paint(place / litter)
        else:
            (place / litter).parent.mkdir(exist_ok=True)
            (place / litter).write_bytes(b"no picture")
    data = real_data("imagefolder", source={"folder": str(folder)}).load()
    assert data.class_names == ("ant", "bee")
    assert data.train.counts == data.test.counts == (2, 2)
    assert "Left out" not in caplog.text


def test_links_are_followed_once_and_never_upwards(tmp_path: Path) -> None:
    cats = paint(tmp_path / "elsewhere" / "cats" / "0.png").parent
    paint(cats / "young" / "1.png")
    train = tmp_path / "train"
    paint(train / "dog" / "2.png")
    (train / "cat").symlink_to(cats)  # a class
    (cats / "0 again.png").symlink_to(cats / "0.png")  # a picture
    (cats / "0 relative").symlink_to("0.png")
    (cats / "also young").symlink_to("young")  # a folder that is there already
    (cats / "up").symlink_to("..")
    (cats / "classes").symlink_to(train)
    (cats / "young" / "self").symlink_to(".")
    (cats / "ring").symlink_to("ring")
    (train / "all").symlink_to(train)
    (train / "top").symlink_to(tmp_path)
    (train / "dog" / "more").symlink_to(paint(tmp_path / "more" / "3.png").parent)
    assert class_folders(train) == ["cat", "dog"]
    assert names(train / "cat") == ["0 again.png", "0 relative", "0.png", "young/1.png"]
    assert names(train / "dog") == ["2.png", "more/3.png"]


def test_left_out_files_of_a_dataset_are_said_once_for_each_part(
    folder: Path, real_data: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "train" / "ant" / "notes.txt").write_text("none")
    (folder / "train" / "bee" / "x.heic").write_bytes(b"none")
    paint(folder / "train" / "lost.png")
    with caplog.at_level(logging.WARNING):
        data = real_data("imagefolder", source={"folder": str(folder)}).load()
    assert data.train.counts == (2, 2)
    left_out = [record.getMessage() for record in caplog.records]
    assert len(left_out) == 2
    assert "Left out 2 files in" in left_out[0] and "ant/notes.txt, bee/x.heic" in left_out[0]
    assert "Left out 1 picture in no class folder of" in left_out[1] and "lost.png" in left_out[1]


def test_content_is_looked_at_only_without_a_known_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "a.png")
    paint(tmp_path / "b", "PNG")
    opened: list[Path] = []
    monkeypatch.setattr(listing, "_opens", lambda path: not opened.append(path))
    assert names(tmp_path) == ["a.png", "b"]
    assert opened == [tmp_path / "b"]


def test_heic_is_read_by_the_plugin_where_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = ModuleType("pillow_heif")
    registered: list[bool] = []
    plugin.register_heif_opener = lambda: registered.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    listing._register_heif.cache_clear()
    list_files(tmp_path)
    list_files(tmp_path)
    assert registered == [True]
    listing._register_heif.cache_clear()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DdistError, match=r"There is no folder .*nowhere: expected one folder per"):
        class_folders(tmp_path / "nowhere")
