"""One size for pictures of several."""

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

USUAL_SIDES = (28, 32, 64, 96, 128)
"""Pixels of a side that this field's networks are made for."""


def choose_size(paths: Sequence[Path], cache: Path) -> int | None:
    """Choose the side in pixels that pictures of several sizes are brought to, and log it; None if
    all are of one size.

    It is the median of their shorter sides, rounded down to one of ``USUAL_SIDES``, or as it is
    below the smallest: it depends on the pictures alone. Their sizes are read from the files'
    headers, once, and kept in ``cache``. Unreadable files are reported when they are decoded.
    """
    sides = _sides(paths, cache)
    sides = sides[(sides > 0).all(1)]
    if len(sides) == 0 or bool((sides == sides[0]).all()):
        return None
    shorter = median_low(sides.min(1).values.tolist())
    size = max((side for side in USUAL_SIDES if side <= shorter), default=shorter)
    smallest, largest = int(sides.min()), int(sides.max())
    log.info(
        "The pictures are of several sizes, with sides from %d to %d pixels: all are brought to "
        "%dx%d (dataset.size=%d chooses another size).",
        smallest,
        largest,
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
