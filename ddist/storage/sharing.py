"""Work that several processes share through files: each complete or not there, none made twice."""

import logging
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ddist.errors import DdistError
from ddist.formatting import format_duration, size
from ddist.stages.progress import Progress
from ddist.storage.atomic import write_file

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds to wait for another process's part before looking for free ones again."""

LOOK_SECONDS = 1.0

T = TypeVar("T")


def share(
    left: Callable[[], Sequence[T]], claim: Callable[[T], bool], wait: Callable[[T], object]
) -> None:
    """Do all parts of a work but for those that other processes do meanwhile, and wait for these.

    Args:
        left: the parts that are not done, by whomever, in the order in which to try them.
        claim: does a part, unless another process is at it; says whether it did.
        wait: waits until nobody is at a part, for a short time at most.
    """
    waited = False
    while remaining := left():
        done = False
        for part in remaining:
            done |= claim(part)
        if not done:
            if not waited:
                log.info("Waiting for other processes that do the rest.")
            waited = True
            wait(remaining[0])


class SharedProgress(Progress):
    """The progress of a shared work.

    Args:
        what, unit, shorter: of :class:`ddist.stages.progress.Progress`.
        left: counts the units that are still to be done, by whomever: processes that share the work
            see each other's.
    """

    def __init__(self, what: str, unit: str, left: Callable[[], int], shorter: str) -> None:
        super().__init__(what, unit, left(), shorter=shorter)
        self._left, self._looked = left, -LOOK_SECONDS

    def advance(self) -> None:
        """To be called after each unit."""
        now = time.monotonic()
        # To count is to look for every file.
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self.to(self.total - self._left())

    def end(self) -> None:
        """To be called when all are there."""
        log.info("%s: all are there, after %s", self.what, format_duration(self.seconds))


@contextmanager
def claimed(path: Path, seconds: float, what: str) -> Iterator[bool]:
    """Whether the lock file ``path`` is this process's alone within the block; another that has it
    is waited for, ``seconds`` long (-1: until it lets go or ends)."""
    lock = FileLock(path)
    with accessible(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(timeout=seconds)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def write_kept(path: Path, content: bytes | memoryview, what: str) -> None:
    """Write ``path``, whole or not at all. Only for who has claimed it."""
    partial = path.with_name(f"{path.stem}.partial")
    with accessible(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_file(partial, content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def check_space(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Raise a DdistError unless ``needed`` bytes are free where ``folder`` is or is to be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DdistError(
            f"The {what} need {size(needed)} in {folder}, but {size(free)} are free there: make "
            f"room, set paths.cache (DDIST_CACHE) to a larger disk, or {remedy}."
        )


@contextmanager
def accessible(path: Path, what: str) -> Iterator[None]:
    """What the system refuses within the block (a full disk, a folder that is not writable), in one
    sentence; but not that a file is missing."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DdistError(
            f"Cannot use the {what}' {path}: {error.strerror or error}; make room or set "
            "paths.cache (DDIST_CACHE) to a folder that can be written to."
        ) from error


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """8 hex digits of the names, shapes, types and bytes of tensors on the CPU."""
    found = 0
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode(), found)
        found = zlib.crc32(_bytes(tensor), found)
    return f"{found:08x}"


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.flatten().view(torch.uint8).numpy().data
