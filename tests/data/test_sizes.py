"""The size that is chosen for pictures of several sizes."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddist.data import RealData
from ddist.data.sources import sizes
from ddist.data.sources.sizes import choose_size


def paint(folder: Path, shapes: Sequence[tuple[int, int]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(len(shapes))]
    for i, (path, shape) in enumerate(zip(paths, shapes, strict=True)):
        Image.new("RGB", shape, (40 * i, 90 + i, 3 * i + 1)).save(path)
    return paths


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(40, 40), (40, 40)], None),
        ([(50, 40), (50, 40)], None),
        ([(50, 40), (40, 50)], 32),
        ([(63, 90), (70, 70), (10, 10)], 32),  # 10, 63, 70: the median
        ([(64, 90), (70, 70), (10, 10)], 64),
        ([(28, 28), (30, 31)], 28),
        ([(20, 28), (19, 31), (200, 200)], 20),
        ([(1000, 700), (900, 901), (400, 500)], 128),
        ([(100, 100), (120, 100)], 96),
    ],
)
def test_the_median_shorter_side_rounded_down(
    shapes: list[tuple[int, int]], expected: int | None, tmp_path: Path
) -> None:
    assert choose_size(paint(tmp_path / "p", shapes), tmp_path / "cache", 128) == expected


@pytest.mark.parametrize(
    ("side", "most", "expected"),
    [(64, 64, None), (200, 64, 64), (200, 128, 128), (128, 128, None), (65, 64, 64)],
)
def test_pictures_of_one_size_are_brought_to_the_most_for_the_machine(
    side: int, most: int, expected: int | None, tmp_path: Path
) -> None:
    paths = paint(tmp_path / "p", [(side, side)] * 3)
    assert choose_size(paths, tmp_path / "cache", most) == expected


def test_orientation_changes_the_sides_places(tmp_path: Path) -> None:
    upright, turned = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.new("RGB", (50, 40)).save(upright)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 50)).save(turned, exif=exif)
    assert choose_size([upright, turned], tmp_path / "cache", 128) is None


def test_sizes_are_read_once_and_damaged_files_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paint(tmp_path / "p", [(70, 70), (65, 65), (64, 64)])
    paths[2].write_bytes(b"no picture")
    assert choose_size(paths, tmp_path / "cache", 128) == 64
    monkeypatch.setattr(sizes, "_size_of", lambda path: pytest.fail("read again"))
    assert choose_size(paths, tmp_path / "cache", 128) == 64


def test_mixed_pictures_are_read_in_the_chosen_size_which_is_said(
    real_data: Callable[..., RealData], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            paint(tmp_path / "p" / part / name, [(40, 33), (36, 50), (41, 41)])
    with caplog.at_level(logging.INFO, "ddist"):
        data = real_data("imagefolder", source={"folder": str(tmp_path / "p")}).load()
    assert data.image_shape == (3, 32, 32) and data.facts["size"] == 32
    assert "sides from 33 to 50 pixels: all are brought to 32x32, which" in caplog.text
    assert "(dataset.size=64 chooses another size)" in caplog.text
    asked = real_data("imagefolder", source={"folder": str(tmp_path / "p")}, size=32).load()
    assert torch.equal(asked.train.x, data.train.x) and "size" not in asked.facts
