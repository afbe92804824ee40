"""Picture files decoded once, into files of uint8 images that are cached."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddist.data.ondisk import OnDisk
from ddist.data.pixels import to_channels
from ddist.data.sources.base import Request
from ddist.data.sources.damage import (
    Damage,
    read_record,
    refuse_or_skip,
    write_record,
)
from ddist.data.sources.decode import USUAL, Colours, decode, reason, upright_size
from ddist.data.sources.ranges import find_white
from ddist.errors import DdistError
from ddist.storage.shards import SHARD_BYTES, Rows, Shards, even_bounds

DECODER = 2
"""Changes with what a picture is decoded to, so that no earlier version's cache is read."""


def decode_pictures(
    groups: Sequence[Sequence[Path]], request: Request, colours: Colours = USUAL
) -> tuple[OnDisk, Tensor]:
    """Decode the pictures of one group after the other, once; then they are read from
    ``<cache>/decoded/<key of the group>``.

    A key holds each file's path, bytes and time of change, the colours, and the wanted size and
    channels: if a picture changes, comes or goes, its group alone is decoded again.

    Returns:
        The pictures, and the number of each, int64 [N], among all of ``groups``: those that are
        left out as damaged are missing.

    Raises:
        DdistError: pictures are damaged and not to be skipped, differ in shape, or are of an
            unknown range; the disk is too small.
    """
    all_paths = [path for group in groups for path in group]
    identities, missing = identify(groups)
    if not request.skip_damaged:
        refuse_or_skip(missing, len(all_paths), skip=False)  # before hours of decoding
    colours = find_white(all_paths, "".join(identities), colours, request.cache)
    shape, example = _shape(all_paths, request)
    wanted = f"{DECODER} {request.size} {request.channels} {shape} {SHARD_BYTES} {colours.key}"
    if request.fit != "crop":
        wanted += f" {request.fit}"
    keys = [hash_text(f"{wanted}\0{identity}") for identity in identities]
    stems, bounds = [], [0]
    for group, key in zip(groups, keys, strict=True):
        ends = even_bounds(len(group), max(1, SHARD_BYTES // prod(shape)))[1:]
        stems += [request.cache / "decoded" / key / f"{k:06d}" for k in range(len(ends))]
        bounds += [bounds[-1] + end for end in ends]

    def make(start: int, stop: int) -> Rows:
        x, reasons = _decode_all(all_paths[start:stop], example, shape, request, colours)
        write_record(stems[bounds.index(start)], reasons)
        return (x if request.channels is None else to_channels(x, request.channels)).numpy()

    channels = shape[0] if request.channels is None else request.channels
    stored = (channels, *shape[1:])
    shards = Shards(stems, bounds, stored, np.uint8, make, "decoded pictures")
    shards.prepare("Decoding", "decoded", "pictures", "set a smaller dataset.size")
    reasons = _reasons(stems, bounds, make)
    damages = [Damage(all_paths[row], why) for row, why in reasons.items()]
    refuse_or_skip(damages, len(all_paths), request.skip_damaged)
    rows = [row for row in range(len(all_paths)) if row not in reasons]
    kept = torch.tensor(rows, dtype=torch.int64)
    x = OnDisk(shards, range(len(all_paths)), " ".join(keys))
    return (x.pick(kept) if reasons else x), kept


def identify(groups: Sequence[Sequence[Path]]) -> tuple[list[str], list[Damage]]:
    """Return 16 hex digits for each group of files, which change with any path, size or time of
    change in it; and list the files that are missing."""
    identities, missing = [], []
    for group in groups:
        facts = []
        for path in group:
            try:
                status = path.stat()
                facts.append(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0")
            except OSError as error:
                missing.append(Damage(path, reason(path, error)))
                facts.append(f"{path.absolute()}\0\0\0")
        identities.append(hash_text("".join(facts)))
    return identities, missing


def hash_text(text: str) -> str:
    """Return 16 hex digits that change with ``text``."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


def decode_separately(paths: Sequence[Path]) -> list[Tensor]:
    """Decode pictures at their own size, each uint8 [3, H, W], without a cache.

    Raises:
        DdistError: damaged pictures.
    """
    images: list[Tensor | None] = [None] * len(paths)

    def place(index: int) -> None:
        images[index] = decode(paths[index], None)

    reasons = decode_each(paths, place)
    damages = [Damage(paths[row], why) for row, why in reasons.items()]
    refuse_or_skip(damages, len(paths), skip=False, remedy="")
    return [image for image in images if image is not None]


def decode_each(paths: Sequence[Path], place: Callable[[int], None]) -> dict[int, str]:
    """Call ``place`` with the number of each path, in threads: Pillow decodes without holding the
    interpreter's lock. Return, by number, why damaged pictures could not be decoded."""

    def attempt(index: int) -> str | None:
        try:
            place(index)
        except (DdistError, MemoryError):
            raise
        except Exception as error:  # damaged files make Pillow raise about anything
            return reason(paths[index], error)
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor() as threads:
        warnings.simplefilter("ignore")  # of large pictures and odd metadata
        outcomes = list(threads.map(attempt, range(len(paths))))
    return {row: outcome for row, outcome in enumerate(outcomes) if outcome is not None}


def _shape(paths: Sequence[Path], request: Request) -> tuple[tuple[int, int, int], Path]:
    """Return the [3, H, W] that all decoded pictures should have, and a picture that has it."""
    if request.size is not None:
        return (3, request.size, request.size), paths[0]
    for path in paths:
        with suppress(Exception):  # a damaged picture, which is said where it is decoded
            width, height = upright_size(path)
            return (3, height, width), path
    return (3, 1, 1), paths[0]


def _reasons(
    stems: Sequence[Path], bounds: Sequence[int], make: Callable[[int, int], Rows]
) -> dict[int, str]:
    """Return why damaged pictures could not be decoded, by their number."""
    reasons: dict[int, str] = {}
    for stem, start, stop in zip(stems, bounds[:-1], bounds[1:], strict=True):
        record = read_record(stem)
        if record is None:  # it was lost
            make(start, stop)
            record = read_record(stem) or {}
        reasons |= {start + row: why for row, why in record.items()}
    return reasons


def _decode_all(
    paths: Sequence[Path],
    example: Path,
    shape: tuple[int, int, int],
    request: Request,
    colours: Colours,
) -> tuple[Tensor, dict[int, str]]:
    """Decode to uint8 [N, *shape]; damaged pictures are black, and why is returned by number."""
    x = torch.zeros(len(paths), *shape, dtype=torch.uint8)

    def place(index: int) -> None:
        picture = decode(paths[index], request.size, colours, request.fit)
        if picture.shape != shape:
            raise DdistError(
                f"The pictures differ in shape: {example} is {_measure(shape)} and {paths[index]} "
                f"{_measure(picture.shape)}; set dataset.size to a number of pixels."
            )
        x[index] = picture

    return x, decode_each(paths, place)


def _measure(shape: Sequence[int]) -> str:
    return f"{shape[2]}x{shape[1]}"
