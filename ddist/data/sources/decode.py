"""One picture file, whatever its mode, as 8-bit RGB."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError
from torch import Tensor

from ddist.data.sources.base import Fit
from ddist.errors import DdistError

# EXIF's orientations (tag 274), each with what makes it upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LAST_UNROTATED = 4  # from 5 on width and height are swapped

WHITE_16 = 65535.0
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0
# Grey PNGs of fewer than 8 bits and RGB ones of 16 name their transparent colour in their own bits,
# Pillow gives the pixels in 8.
TO_8_BITS = {"L;2": 85.0, "L;4": 17.0, "RGB;16B": 1 / 256}


class UnknownRange(ValueError):
    """A picture of mode I or F whose white is not known."""


@dataclass(frozen=True)
class Colours:
    """How colours become 8-bit RGB.

    Attributes:
        background: RGB behind transparent pixels.
        white: the value of pictures of more than 8 bits that becomes 255; None takes that of
            16 bits, and for the modes I and F ``white_of``.
        white_of: by the modes I (32-bit integers) and F (floats), see
            :mod:`ddist.data.sources.ranges`; a picture of a mode that is not there is refused.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    white: float | None = None
    white_of: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A key that changes with what is decoded."""
        return f"{self.background} {self.white} {sorted(self.white_of.items())}"


USUAL = Colours()


def parse_colours(background: str, white: float | None) -> Colours:
    """Make the :class:`Colours` of dataset.source.background and dataset.source.white."""
    try:
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise DdistError(
            f"dataset.source.background={background} is no colour: set a name such as white, or "
            "'rgb(0,0,0)'."
        ) from error
    return Colours((red, green, blue), white)


def decode(path: Path, size: int | None, colours: Colours = USUAL, fit: Fit = "crop") -> Tensor:
    """Read one picture, upright, as uint8 [3, H, W] RGB; the first, if the file has several.

    With a ``size`` the shorter side is resized to it (bilinear, antialiased) and the centre
    cropped, or with ``fit`` "squash" both sides are resized. Grey pictures of more than 8 bits are
    scaled from 0..white (see :class:`Colours`) to 0..255, never by a picture's own brightest value,
    so that pictures stay comparable.

    Raises:
        Exception: whatever Pillow raises for a damaged picture; see :func:`reason`.
    """
    with Image.open(path) as file:
        picture = to_rgb(file, colours)
    if size is not None and fit == "squash":
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    elif size is not None:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def upright_size(path: Path) -> tuple[int, int]:
    """Read width and height of a picture as it is decoded, from its header alone."""
    with Image.open(path) as file:
        # Pillow turns TIFF by itself and says its size so.
        turned = file.format != "TIFF" and _orientation(file) > LAST_UNROTATED
        return (file.height, file.width) if turned else (file.width, file.height)


def reason(path: Path, error: BaseException) -> str:
    """Say why ``path`` could not be decoded, as the rest of a sentence about it."""
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, UnidentifiedImageError):
        is_empty = path.stat().st_size == 0
        return "is empty" if is_empty else "cannot be decoded (of no format that Pillow reads)"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be decoded ({os.strerror(error.errno)})"
    return f"cannot be decoded ({error or type(error).__name__})"


def to_rgb(file: Image.Image, colours: Colours, upright: bool = True) -> Image.Image:
    """Convert an open picture of any mode to RGB, without transparency and, if ``upright``, turned
    as EXIF says."""
    tiles: Any = getattr(file, "tile", None)  # known until it is loaded
    layout = tiles[0][3] if tiles else None
    file.load()
    picture: Image.Image = file
    if is_deep(file.mode):
        picture = _deep_to_rgb(file, colours)
    elif file.has_transparency_data:
        picture = _composite(file, layout, colours.background)
    picture = picture.convert("RGB")
    method = UPRIGHT.get(_orientation(file)) if upright else None
    return picture if method is None else picture.transpose(method)


def is_deep(mode: str) -> bool:
    """Tell whether a mode of Pillow's has more than 8 bits: I;16 and its kin, I and F."""
    return mode.startswith("I") or mode == "F"


def has_16_bits(file: Image.Image) -> bool:
    """Tell whether a picture has 16 bits, or fewer that Pillow stores as 16."""
    # Pillow scales PNM of more than 8 bits to 16 and calls it I; old versions call 16-bit PNG so.
    return file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PPM", "PNG"))


def _orientation(file: Image.Image) -> int:
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, of which Pillow's reader raises many things: none
        return 1
    return orientation if isinstance(orientation, int) else 1


def _deep_to_rgb(file: Image.Image, colours: Colours) -> Image.Image:
    values = np.asarray(file).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"mode {file.mode} with values that are not finite")
    white = colours.white or _white(file, colours)
    grey = (values * (255 / white)).round().clip(0, 255).astype(np.uint8)
    tags: Any = getattr(file, "tag_v2", {})
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # which Pillow heeds in 8 bits only
        grey = 255 - grey
    rgb = np.repeat(grey[..., None], 3, axis=2)
    transparent = file.info.get("transparency")
    if isinstance(transparent, int):
        rgb[values == transparent] = colours.background
    return Image.fromarray(rgb)


def _white(file: Image.Image, colours: Colours) -> float:
    if has_16_bits(file):
        bits: Any = getattr(file, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))
        return float(2 ** bits[0] - 1) if isinstance(bits, tuple) else WHITE_16
    if file.mode not in colours.white_of:
        raise UnknownRange(
            f"{file.format} of mode {file.mode}, of which white is not known: set "
            "dataset.source.white, or give the file the suffix of its format"
        )
    return colours.white_of[file.mode]


def _composite(file: Image.Image, layout: object, background: tuple[int, int, int]) -> Image.Image:
    """Lay a picture with an alpha channel, or with a transparent colour or palette entries, on
    ``background``."""
    transparent, factor = file.info.get("transparency"), TO_8_BITS.get(str(layout))
    if factor is not None and isinstance(transparent, int | tuple):
        values = transparent if isinstance(transparent, tuple) else (transparent,)
        eight = tuple(int(value * factor) for value in values)
        file.info["transparency"] = eight if isinstance(transparent, tuple) else eight[0]
    picture = file.convert("LA") if file.mode == "La" else file
    below = Image.new("RGBA", file.size, (*background, 255))
    return Image.alpha_composite(below, picture.convert("RGBA"))
