"""Picture files decoded once into one uint8 tensor, which is cached."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddist.data.cache import cached_tensors
from ddist.errors import DdistError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)


def find_pictures(folder: Path) -> list[Path]:
    """All picture files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def decode_pictures(paths: Sequence[Path], size: int | None, cache: Path) -> Tensor:
    """uint8 [N, 3, H, W]; decoded once, then read from ``cache``/decoded.

    The cache's key holds each file's path, bytes and time of change, and ``size``. With ``size``,
    the shorter side is resized to it (bilinear, antialiased) and the centre cropped.

    Raises:
        DdistError: a damaged picture; pictures of different shapes; more than memory holds.
    """
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DdistError(f"The picture {path} is missing ({error.strerror}).") from error
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    kept = cache / "decoded" / f"{digest.hexdigest()}.safetensors"
    return cached_tensors(kept, lambda: {"x": _decode_all(paths, size)})["x"]


def _decode_all(paths: Sequence[Path], size: int | None) -> Tensor:
    first = decode(paths[0], size)
    _check_memory(len(paths) * first.numel())
    x = torch.empty(len(paths), *first.shape, dtype=torch.uint8)

    def place(index: int) -> None:
        picture = decode(paths[index], size)
        if picture.shape != first.shape:
            raise DdistError(
                f"The pictures differ in shape: {paths[0]} is {_measure(first)} and {paths[index]} "
                f"{_measure(picture)}; set dataset.size to a number of pixels."
            )
        x[index] = picture

    with ThreadPoolExecutor() as threads:  # Pillow decodes without holding the interpreter's lock
        for _ in threads.map(place, range(len(paths))):
            pass
    return x


def decode(path: Path, size: int | None) -> Tensor:
    """One picture as uint8 [3, H, W] RGB; see :func:`decode_pictures` for ``size``."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DdistError(
            f"The picture {path} cannot be decoded ({error}): mend or remove it."
        ) from error
    if size is not None:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _measure(picture: Tensor) -> str:
    return f"{picture.shape[2]}x{picture.shape[1]}"


def _check_memory(num_bytes: int) -> None:
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if num_bytes > 0.7 * available:
        raise DdistError(
            f"The decoded pictures would take {num_bytes / 2**30:.0f} GiB and this machine has "
            f"{available / 2**30:.0f} GiB of memory: set a smaller dataset.size, or leave pictures "
            "out."
        )
