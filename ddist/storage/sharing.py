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
from ddist.storage.atomic import replacing, write_file

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds to wait for another process's share before looking for free ones again."""

LOOK_SECONDS = 1.0

MOST_TIMES = 20
"""Another process may remove what was done, but not that often."""

T = TypeVar("T")


def share(
    remaining: Callable[[], Sequence[T]], claim: Callable[[T], bool], wait: Callable[[T], object]
) -> None:
    """Do all jobs of a work but for those that other processes do meanwhile, and wait for these.

    Args:
        remaining: the jobs that are not done, by whomever, in the order in which to try them.
        claim: does a job, unless another process is at it; says whether it did.
        wait: waits until nobody is at a job, for a short time at most.

    Raises:
        RuntimeError: a job was done ``MOST_TIMES`` times and still remains, as it always would.
    """
    waited = False
    times: dict[str, int] = {}
    while jobs := remaining():
        done = [str(job) for job in jobs if claim(job)]
        for job in done:
            times[job] = times.get(job, 0) + 1
            if times[job] == MOST_TIMES:
                raise RuntimeError(f"{job} was done {MOST_TIMES} times, and is not there")
        if not done:
            if not waited:
                log.info("Waiting for other processes that do the rest.")
            waited = True
            wait(jobs[0])


class SharedProgress(Progress):
    """The progress of a shared work.

    Args:
        what, unit, shorter: of :class:`ddist.stages.progress.Progress`.
        count: the number of units that are still to be done, by whomever: processes that share the
            work see each other's.
    """

    def __init__(self, what: str, unit: str, count: Callable[[], int], shorter: str) -> None:
        super().__init__(what, unit, count(), shorter=shorter)
        self._count, self._counted = count, -LOOK_SECONDS

    def advance(self) -> None:
        """Show how far all are; to be called after each unit."""
        now = time.monotonic()
        # To count is to look for every file.
        if now - self._counted >= LOOK_SECONDS:
            self._counted = now
            self.to(self.total - self._count())

    def end(self) -> None:
        """Log how long it took; to be called when all are there."""
        log.info("%s: all are there, after %s", self.what, format_duration(self.seconds))


@contextmanager
def claimed(path: Path, seconds: float, what: str) -> Iterator[bool]:
    """Yield whether the lock file ``path`` is this process's alone within the block; another that
    has it is waited for, ``seconds`` long (-1: until it lets go or ends)."""
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
    """Write ``path``, complete or not at all. Only for who has claimed it."""
    with accessible(path, what), replacing(path, alone=True) as partial:
        write_file(partial, content)


def check_space(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Raise a DdistError unless ``needed`` bytes are free where ``folder`` is or is to be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DdistError(
            f"The {what} need {size(needed)} in {folder}, but {size(free)} are free there: make "
            f"room, set paths.cache (DDIST_CACHE) to a larger disk, or {remedy}."
        )


@contextmanager
def accessible(path: Path, what: str) -> Iterator[None]:
    """Raise what the system refuses within the block (a full disk, a folder that is not writable)
    as DdistError; but not that a file is missing."""
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
    """Return 8 hex digits of the names, shapes, types and bytes of tensors on the CPU."""
    crc = 0
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode(), crc)
        crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
