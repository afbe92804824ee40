"""Pictures of every mode, with transparency or turned, become the same upright 8-bit RGB."""

import colorsys
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, features

from ddist.data.sources.base import Request
from ddist.data.sources.decode import USUAL, Colours, decode, parse_colours, to_rgb, upright_size
from ddist.data.sources.pictures import decode_pictures
from ddist.errors import DdistError

Array = NDArray[Any]
GREY = np.array([[0, 51, 102, 119], [136, 170, 204, 255]], np.uint8)  # [H, W]
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)  # [H, W, 3]
ALPHA = np.array([[0, 255, 128, 255], [255, 0, 64, 255]], np.uint8)
BLUE = (0, 0, 255)


def grey_as_rgb(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=2)


def on(background: tuple[int, int, int], rgb: Array, alpha: Array = ALPHA) -> Array:
    share = alpha[..., None] / 255
    return share * rgb + (1 - share) * np.array(background)


def read(path: Path, colours: Colours = USUAL) -> Array:
    return decode(path, None, colours).permute(1, 2, 0).numpy()


def write_png(
    path: Path, bits: int, colour_type: int, rows: list[bytes], transparent: bytes
) -> None:
    """A PNG as Pillow does not write them: ``rows`` are packed pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    width = 4
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "x.png"), ("L", "x.tif"), ("I;16", "x.png"), ("I;16", "x.tif"), ("I;16B", "x.tif"),
     ("I", "x.tif"), ("I", "x.pgm"), ("F", "x.tif"), ("I;16", "x.jp2")],
)  # fmt: skip
def test_grey_pictures_of_every_depth_are_the_same_grey(
    mode: str, name: str, tmp_path: Path
) -> None:
    if name == "x.jp2" and not features.check("jpg_2000"):
        pytest.skip("Pillow without JPEG 2000")
    deep = GREY.astype(np.int64) * 257
    values = {
        "L": GREY, "I;16": deep.astype("<u2"), "I;16B": deep.astype(">u2"),
        "I": deep.astype(np.int32), "F": (GREY / 255).astype(np.float32),
    }[mode]  # fmt: skip
    picture = Image.frombytes(mode, (4, 2), np.ascontiguousarray(values).tobytes())
    picture.save(tmp_path / name, **({"irreversible": False} if name == "x.jp2" else {}))
    with Image.open(tmp_path / name) as file:
        assert file.mode == (mode if name != "x.pgm" else "I")
    colours = Colours(white_of={"I": 65535.0, "F": 1.0})
    assert np.array_equal(read(tmp_path / name, colours), grey_as_rgb(GREY))


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_coloured_pictures_of_every_mode(mode: str) -> None:
    """Against the formula of each, not Pillow's."""
    if mode == "1":
        picture, expected = Image.fromarray(GREY > 127), grey_as_rgb(255 * (GREY > 127))
    elif mode == "P":
        picture = Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4)).convert("P")
        picture.putpalette(RGB.tobytes())
        expected = RGB
    elif mode == "LAB":  # neutral greys: L* of each
        y = np.where(
            GREY / 255 > 0.04045, ((GREY / 255 + 0.055) / 1.055) ** 2.4, GREY / 255 / 12.92
        )
        lightness = np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)
        neutral = np.full_like(GREY, 0)
        planes = [(lightness * 2.55).round().astype(np.uint8), neutral, neutral]
        picture = Image.frombytes("LAB", (4, 2), np.stack(planes, axis=2).tobytes())
        expected = grey_as_rgb(GREY)
    else:
        planes = {
            "RGB": RGB,
            "RGBX": np.dstack([RGB, GREY]),
            "CMYK": np.dstack([255 - RGB, np.zeros_like(GREY)]),
            "YCbCr": RGB @ np.array([[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688],
                                     [0.114, 0.5, -0.081312]]) + [0, 128, 128],
            "HSV": [[[255 * v for v in colorsys.rgb_to_hsv(*(p / 255))] for p in r] for r in RGB],
        }[mode]  # fmt: skip
        content = np.asarray(planes).round().clip(0, 255).astype(np.uint8).tobytes()
        picture, expected = Image.frombytes(mode, (4, 2), content), RGB
    assert picture.mode == mode
    rgb = to_rgb(picture, USUAL)
    assert rgb.mode == "RGB"
    assert np.abs(np.asarray(rgb).astype(int) - expected).max() <= (
        4 if mode in ("HSV", "LAB") else 2
    )


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA"])
@pytest.mark.parametrize("background", [(255, 255, 255), BLUE])
def test_transparency_is_laid_on_the_background(
    mode: str, background: tuple[int, int, int]
) -> None:
    if mode == "PA":
        indices = Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4))
        picture = Image.merge("PA", [indices, Image.fromarray(ALPHA)])
        picture.putpalette(RGB.tobytes())
    else:
        picture = Image.fromarray(np.dstack([GREY if mode[0] == "L" else RGB, ALPHA]))
        picture = picture.convert(mode)
    rgb = grey_as_rgb(GREY) if mode[0] == "L" else RGB
    expected = on(background, rgb)
    found = np.asarray(to_rgb(picture, Colours(background))).astype(float)
    assert np.abs(found - expected).max() <= (3 if mode[-1] == "a" else 1)


def test_transparent_palette_entries_and_colours(tmp_path: Path) -> None:
    colours = Colours(BLUE)
    indices = np.arange(8, dtype=np.uint8).reshape(2, 4)
    palette = Image.fromarray(indices).convert("P")
    palette.putpalette(RGB.tobytes())
    hidden = np.where(indices == 3, 0, 255)
    for name, transparent, alpha in (
        ("one.png", 3, hidden),
        ("one.gif", 3, hidden),
        ("some.png", bytes(range(0, 80, 10)), 10 * indices),
    ):
        palette.save(tmp_path / name, transparency=transparent)
        expected = on(BLUE, RGB, alpha)
        assert np.abs(read(tmp_path / name, colours) - expected).max() <= 1
    for mode, values, transparent in (("L", GREY, 51), ("RGB", RGB, (51, 170, 204))):
        Image.fromarray(values).save(tmp_path / "x.png", transparency=transparent)
        with Image.open(tmp_path / "x.png") as file:
            assert file.mode == mode
        rgb = grey_as_rgb(GREY) if mode == "L" else RGB
        expected = on(BLUE, rgb, np.where(GREY == 51, 0, 255))
        assert np.array_equal(read(tmp_path / "x.png", colours), expected)
    alpha = np.where(ALPHA > 99, 255, 0).astype(np.uint8)
    for name, options in (("x.webp", {"lossless": True, "exact": True}), ("x.tif", {})):
        Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / name, **options)  # type: ignore[arg-type]
        assert np.array_equal(read(tmp_path / name, colours), on(BLUE, RGB, alpha))


def test_transparent_colours_of_png_in_its_own_bits(tmp_path: Path) -> None:
    """Grey of 2 and 4 bits, where Pillow gives the pixels in 8, and grey and RGB of 16."""
    levels = np.array([[0, 85, 170, 255]], np.uint8)
    nibbles = np.array([[0, 17, 34, 255]], np.uint8)
    deep = np.array([0, 300, 65535, 25700], ">u2")
    rgb16 = np.stack([deep, deep[::-1], deep], axis=1).astype(">u2")
    for bits, colour_type, row, transparent, rgb in (
        (2, 0, bytes([0b00011011]), struct.pack(">H", 1), grey_as_rgb(levels)),
        (4, 0, bytes([0x01, 0x2F]), struct.pack(">H", 1), grey_as_rgb(nibbles)),
        (16, 0, deep.tobytes(), struct.pack(">H", 300), grey_as_rgb(np.round(deep[None] / 257))),
        (16, 2, rgb16.tobytes(), struct.pack(">HHH", *rgb16[1]), (rgb16 >> 8)[None]),
    ):
        write_png(tmp_path / "x.png", bits, colour_type, [row], transparent)
        expected = rgb.astype(np.uint8).copy()
        expected[0, 1] = BLUE
        assert np.array_equal(read(tmp_path / "x.png", Colours(BLUE)), expected)


def turned(upright: Array, orientation: int) -> Array:
    """``upright`` as a camera of that orientation stores it."""
    return {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif", "lzw.tif", "x.jpg", "x.avif"])
def test_every_orientation_is_turned_upright(name: str, tmp_path: Path) -> None:
    if name == "x.avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    blocks = np.kron(RGB, np.ones((16, 16, 1), np.uint8))  # which JPEG keeps, nearly
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options = {"x.webp": {"lossless": True}, "lzw.tif": {"compression": "tiff_lzw"},
                   "x.jpg": {"quality": 100, "subsampling": 0},
                   "x.avif": {"quality": 100, "subsampling": "4:4:4"}}.get(name, {})  # fmt: skip
        stored = Image.fromarray(np.ascontiguousarray(turned(blocks, orientation)))
        stored.save(tmp_path / name, exif=exif, **options)  # type: ignore[arg-type]
        found = read(tmp_path / name)
        assert found.shape == blocks.shape, orientation
        assert np.abs(found.astype(int) - blocks).mean() < 3, orientation
        assert upright_size(tmp_path / name) == (64, 32)


def test_a_picture_with_damaged_exif_is_read_as_it_is_stored(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff no tags")
    assert np.array_equal(read(tmp_path / "x.png"), RGB)


def test_white_is_zero_in_tiff(tmp_path: Path) -> None:
    """Which Pillow inverts in 8 bits only."""
    file = tmp_path / "x.tif"
    Image.fromarray(GREY.astype(np.uint16) * 257).save(file)
    content = file.read_bytes()
    black_is_zero = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert content.count(black_is_zero) == 1
    file.write_bytes(content.replace(black_is_zero, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    assert np.array_equal(read(file), grey_as_rgb(255 - GREY))


def save_all(folder: Path, arrays: list[Array]) -> list[Path]:
    paths = [folder / f"{number}.tif" for number in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    return paths


def decode_folder(folder: Path, paths: list[Path], colours: Colours = USUAL) -> torch.Tensor:
    request = Request(folder, folder / "cache", True, False, None, None, False, None)
    return decode_pictures([paths], request, colours)[0][:]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_white_of_32_bits_is_one_for_all_pictures_of_a_folder(
    dtype: type, white: int, tmp_path: Path
) -> None:
    bright = np.array([[0, white]], dtype)
    half = np.array([[white // 2 if dtype == np.int32 else white / 2, 0]], dtype)
    paths = save_all(tmp_path, [half, bright])
    x = decode_folder(tmp_path, paths)
    expected = round(float(half[0, 0]) * 255 / white)
    assert x[:, 0, 0].tolist() == [[expected, 0], [0, 255]]
    # By a white of one's own, without a look at the others.
    again = decode_folder(tmp_path, paths, Colours(white=2 * white))
    assert again[:, 0, 0].tolist() == [[round(float(half[0, 0]) * 255 / 2 / white), 0], [0, 128]]


def test_a_white_of_ones_own_cuts_off_and_holds_for_16_bits(tmp_path: Path) -> None:
    x = decode_folder(tmp_path, save_all(tmp_path, [np.array([[0, 4095, 4096]], np.uint16)]),
                      parse_colours("white", 4095))  # fmt: skip
    assert x[0, 0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("array", [[[-1.5, 3.0]], [[0, 70000]], [[np.inf, 0.0]]])
def test_an_unknown_range_is_refused_by_name_and_mode(array: Any, tmp_path: Path) -> None:
    values = np.array(array, np.float32 if isinstance(array[0][0], float) else np.int32)
    mode = "F" if values.dtype == np.float32 else "I"
    paths = save_all(tmp_path, [np.zeros((1, 2), values.dtype), values])
    with pytest.raises(DdistError, match=rf"1\.tif .*mode {mode}"):
        decode_folder(tmp_path, paths)
    if np.isfinite(values).all():
        assert decode_folder(tmp_path, paths, Colours(white=70000.0))[1].max() in (0, 255)


def test_floats_in_a_file_of_another_suffix_are_refused_by_mode(tmp_path: Path) -> None:
    (path,) = save_all(tmp_path, [np.ones((2, 2), np.float32)])
    path = path.rename(tmp_path / "x.png")
    with pytest.raises(DdistError, match=r"x\.png cannot be decoded \(TIFF of mode F"):
        decode_folder(tmp_path, [path])


def test_settings_that_mean_nothing_are_named() -> None:
    assert parse_colours("#0000ff", None) == Colours(BLUE)
    with pytest.raises(DdistError, match=r"background=whit is no colour: set a name such as white"):
        parse_colours("whit", None)
