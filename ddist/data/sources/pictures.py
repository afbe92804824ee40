"""Picture files decoded once, into files of uint8 images that are cached."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddist.data.ondisk import OnDisk
from ddist.data.pixels import check_channels, check_size, to_channels
from ddist.data.sources.base import Request
from ddist.errors import DdistError
from ddist.shards import SHARD_BYTES, Rows, Shards, even_bounds

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for damaged files."""


def find_pictures(folder: Path) -> list[Path]:
    """All picture files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def decode_pictures(groups: Sequence[Sequence[Path]], request: Request) -> OnDisk:
    """The pictures of one group after the other; decoded once, then read from
    ``<cache>/decoded/<key of the group>``.

    A key holds each file's path, bytes and time of change, and the wanted size and channels: where
    one picture changes, or comes or goes, its group alone is decoded again. With a wanted size the
    shorter side is resized to it (bilinear, antialiased) and the centre cropped.

    Raises:
        DdistError: a damaged picture; pictures of different shapes; a disk that is too small.
    """
    paths = [path for group in groups for path in group]
    shape = _shape(paths[0], request)
    keys = [_key(group, shape, request) for group in groups]
    stems, bounds = [], [0]
    for group, key in zip(groups, keys, strict=True):
        ends = even_bounds(len(group), max(1, SHARD_BYTES // prod(shape)))[1:]
        stems += [request.cache / "decoded" / key / f"{k:06d}" for k in range(len(ends))]
        bounds += [bounds[-1] + end for end in ends]

    def make(start: int, stop: int) -> Rows:
        x = _decode_all(paths[start:stop], paths[0], shape, request.size)
        return (x if request.channels is None else to_channels(x, request.channels)).numpy()

    channels = shape[0] if request.channels is None else request.channels
    stored = (channels, *shape[1:])
    shards = Shards(stems, bounds, stored, np.uint8, make, "decoded pictures")
    shards.prepare("Decoding", "decoded", "pictures", "set a smaller dataset.size")
    return OnDisk(shards, range(len(paths)), " ".join(keys))


def _shape(first: Path, request: Request) -> tuple[int, int, int]:
    """Of the decoded pictures, if they are all of one shape."""
    if request.channels is not None:
        check_channels(request.channels)
    if request.size is not None:
        check_size(request.size)
        return 3, request.size, request.size
    try:
        with Image.open(first) as file:
            return 3, file.height, file.width
    except UNREADABLE as error:
        raise _undecodable(first, error) from error


def _key(group: Sequence[Path], shape: tuple[int, ...], request: Request) -> str:
    wanted = f"{request.size} {request.channels} {shape} {SHARD_BYTES}"
    digest = hashlib.blake2b(wanted.encode(), digest_size=8)
    for path in group:
        try:
            stat = path.stat()
        except OSError as error:
            raise DdistError(f"The picture {path} is missing ({error.strerror}).") from error
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _decode_all(
    paths: Sequence[Path], first: Path, shape: tuple[int, int, int], size: int | None
) -> Tensor:
    x = torch.empty(len(paths), *shape, dtype=torch.uint8)

    def place(index: int) -> None:
        picture = decode(paths[index], size)
        if picture.shape != shape:
            raise DdistError(
                f"The pictures differ in shape: {first} is {_measure(shape)} and {paths[index]} "
                f"{_measure(picture.shape)}; set dataset.size to a number of pixels."
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
    except UNREADABLE as error:
        raise _undecodable(path, error) from error
    if size is not None:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _undecodable(path: Path, error: BaseException) -> DdistError:
    return DdistError(f"The picture {path} cannot be decoded ({error}): mend or remove it.")


def _measure(shape: Sequence[int]) -> str:
    return f"{shape[2]}x{shape[1]}"
