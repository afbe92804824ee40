"""One size for all pictures, which suits them and the machine."""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median_low

import torch
from torch import Tensor

from ddist.data.sources.decode import upright_size
from ddist.storage.cache import cached_tensors

log = logging.getLogger(__name__)

MOST_ON_CPU, MOST = 64, 128
"""The largest side that is chosen by itself; 128 pixels are 4 times as many as 64."""
USUAL_SIDES = (28, 32, 64, 96, 128)
"""Pixels of a side that this field's networks are made for."""


def choose_size(paths: Sequence[Path], cache: Path, most: int) -> int | None:
    """Choose the side in pixels, ``most`` or less, that pictures are brought to, and log it; None
    if all are of one size, and that is not larger.

    It is the median of their shorter sides, rounded down to one of ``USUAL_SIDES``, or as it is
    below the smallest. Their sizes are read from the files' headers, once, and kept in ``cache``.
    Unreadable files are reported when they are decoded.
    """
    sides = _sides(paths, cache)
    sides = sides[(sides > 0).all(1)]
    if len(sides) == 0:
        return None
    alike, shorter = bool((sides == sides[0]).all()), sides.min(1).values
    if alike and int(shorter[0]) <= most:
        return None
    median = min(most, median_low(shorter.tolist()))
    size = max((side for side in USUAL_SIDES if side <= median), default=median)
    smallest, largest = int(sides.min()), int(sides.max())
    log.info(
        "The pictures have sides %s: all are brought to %dx%d, which this machine distils in "
        "reasonable time (dataset.size=%d chooses another size).",
        f"of {smallest} pixels" if smallest == largest else f"from {smallest} to {largest} pixels",
        size,
        size,
        2 * size,
    )
    return size


def _sides(paths: Sequence[Path], cache: Path) -> Tensor:
    """Return the width and height of each picture, int64 [N, 2]; 0 for unreadable ones."""
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            digest.update(f"{path.absolute()}\0".encode())
            continue
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())

    def compute() -> dict[str, Tensor]:
        with ThreadPoolExecutor() as threads:
            return {"sides": torch.tensor(list(threads.map(_size_of, paths)))}

    kept = cache / "decoded" / f"{digest.hexdigest()}.sizes.safetensors"
    return cached_tensors(kept, compute)["sides"]


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return upright_size(path)
    except Exception:  # Pillow raises many things for damaged pictures, which are named later
        return 0, 0
