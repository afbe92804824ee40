"""What is white in pictures of 32-bit integers and floats: known from a whole folder of them."""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddist.data.sources.decode import Colours, has_16_bits
from ddist.errors import DdistError
from ddist.storage.cache import cached_tensors

MODES = ("I", "F")
WHITES = (1.0, 255.0, 65535.0)
"""Of which the smallest that no picture exceeds is white."""

# Formats of which Pillow makes neither mode, so that not every header of a large folder is read.
NEVER_DEEP = frozenset({"JPEG", "PNG", "GIF", "BMP", "WEBP"})


@dataclass(frozen=True)
class Extent:
    """The smallest and the largest finite value of a picture."""

    path: Path
    mode: str
    low: float
    high: float


def find_white(paths: Sequence[Path], identity: str, colours: Colours, cache: Path) -> Colours:
    """Complete ``colours`` with the white of the modes I and F, from all of ``paths`` together.

    For each mode it is the smallest of 1, 255 and 65535 that none of its pictures exceeds: how such
    pictures are usually scaled, and one for all of them, so that they stay comparable. ``identity``
    changes with the files; the pictures' ranges are kept in ``cache``.

    Raises:
        DdistError: values are below 0 or above 65535, so that white cannot be known.
    """
    suffixes = Image.registered_extensions()
    rows = [
        row for row, path in enumerate(paths) if suffixes.get(path.suffix.lower()) not in NEVER_DEEP
    ]
    if colours.white is not None or not rows:
        return colours
    key = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    kept = cached_tensors(
        cache / "decoded" / f"{key}.ranges.safetensors",
        lambda: {"extents": _extents([paths[row] for row in rows])},
    )
    extents = [
        Extent(paths[rows[int(row)]], MODES[int(mode)], low, high)
        for row, mode, low, high in kept["extents"].tolist()
    ]
    whites = {
        mode: _white([picture for picture in extents if picture.mode == mode]) for mode in MODES
    }
    return replace(colours, white_of={mode: white for mode, white in whites.items() if white})


def _white(extents: list[Extent]) -> float | None:
    """Return the white of all pictures of one mode; None if there are none."""
    if not extents:
        return None
    lowest, highest = min(extents, key=lambda e: e.low), max(extents, key=lambda e: e.high)
    for odd in (lowest, highest):
        if odd.low < 0 or odd.high > WHITES[-1]:
            raise DdistError(
                f"{odd.path} is a picture of mode {odd.mode} with values from {odd.low:g} to "
                f"{odd.high:g}, of which black and white cannot be known: set dataset.source.white "
                "to the value of white (what is beyond it and 0 is cut off), or store 8 or 16 bits."
            )
    return next(white for white in WHITES if highest.high <= white)


def _extents(paths: Sequence[Path]) -> torch.Tensor:
    """Return float64 [D, 4]: row of the path, number of the mode, smallest and largest value."""
    with ThreadPoolExecutor() as threads:
        extents = [
            (float(row), *extent)
            for row, extent in enumerate(threads.map(_extent, paths))
            if extent is not None
        ]
    return torch.tensor(extents, dtype=torch.float64).reshape(-1, 4)


def _extent(path: Path) -> tuple[float, float, float] | None:
    """Return (number of its mode, smallest, largest value) of a picture; None if not I or F."""
    try:
        with Image.open(path) as file:
            if file.mode not in MODES or has_16_bits(file):
                return None
            file.load()
            values = np.asarray(file)
    except MemoryError:
        raise
    except Exception:  # a damaged picture, which is said where it is decoded
        return None
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, math.inf)
    return None if math.isinf(high) else (float(MODES.index(file.mode)), low, high)
