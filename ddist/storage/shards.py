"""Rows of a large array on disk, made once, in files that are each complete or not there."""

import io
import logging
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ddist.errors import DdistError
from ddist.formatting import size
from ddist.stages.stopping import keeping
from ddist.storage import sharing

log = logging.getLogger(__name__)

SHARD_BYTES = 2**25
"""The size of a file, about: what may be lost in a kill, and what is held in memory."""

Rows = NDArray[Any]
Integers = NDArray[np.int64]


class Shards:
    """Rows [N, *shape] of which file k, ``<stems[k]>.<crc32>.npy``, holds those from ``bounds[k]``
    to ``bounds[k + 1]``.

    A file that is missing or damaged is made anew, and processes share the making. Reading maps one
    file at a time: the memory does not grow with N.

    Args:
        stems: one for each file, which names all that its rows depend on: files of the same name
            are one.
        bounds: from 0 to N, one more than there are files.
        shape, dtype: of a row.
        make: the rows from the first number to the second.
        what: they are, in messages, such as "latents".
    """

    def __init__(
        self,
        stems: Sequence[Path],
        bounds: Sequence[int],
        shape: tuple[int, ...],
        dtype: DTypeLike,
        make: Callable[[int, int], Rows],
        what: str,
    ) -> None:
        self.stems, self.bounds = list(stems), np.asarray(bounds, np.int64)
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.make, self.what = make, what
        self._numbers: dict[Path, list[int]] = {}
        for number, stem in enumerate(self.stems):
            self._numbers.setdefault(stem, []).append(number)
        self._intact: dict[int, Path] = {}  # files whose checksum was seen to be right

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def prepare(self, doing: str, done: str, things: str, remedy: str) -> None:
        """Make what is missing, together with any other process that does the same.

        Args:
            doing, done: what is done to make them, such as "Encoding" and "encoded".
            things: the N of which there is a row each, such as "images of mnist".
            remedy: what else helps where the disk is too small.

        Raises:
            DdistError: the disk is too small or cannot be written to; and what ``make`` raises.
        """
        missing = self.missing()
        if not missing:
            return
        folder = self._common_folder()
        needed = sum(self._file_bytes(number) for number in missing)
        sharing.check_space(folder, needed, self.what, remedy)
        log.info("%s %s %s: %s are missing, in %s.", doing, f"{len(self):,}", things, size(needed),
                 folder)  # fmt: skip
        progress = sharing.SharedProgress(
            self.what,
            "images",
            count=self._num_missing,
            shorter="Several processes share the work: start the same command once more.",
        )

        def claim(number: int) -> bool:
            is_mine = self._claim(number, 0)
            if is_mine:
                progress.advance()
            return is_mine

        def summary() -> str:
            num = len(self) - self._num_missing()
            return (
                f"{num:,} of {len(self):,} images are {done} and kept in {folder}, and the same "
                "command does the rest"
            )

        with keeping(summary), progress:
            sharing.share(self.missing, claim, lambda number: self._claim(number, sharing.PATIENCE))
        progress.end()

    def missing(self) -> list[int]:
        """Return the numbers of the files that are not there in their full size."""
        complete: set[int] = set()
        for folder in {stem.parent for stem in self.stems}:
            for path in folder.glob("*.npy"):
                numbers = self._numbers.get(_stem(path), [])
                complete.update(number for number in numbers if self._is_complete(path, number))
        return [number for number in range(len(self.stems)) if number not in complete]

    def read(self, rows: Integers) -> Rows:
        """Return the rows [n, *shape] of those numbers [n], in that order."""
        values = np.empty((len(rows), *self.shape), self.dtype)
        numbers = np.searchsorted(self.bounds, rows, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        firsts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for places in np.split(order, firsts[1:]) if len(rows) else []:
            number = int(numbers[places[0]])
            values[places] = self._open(number)[rows[places] - self.bounds[number]]
        return values

    # -- files -----------------------------------------------------------------------------------

    def _common_folder(self) -> Path:
        folders = {stem.parent for stem in self.stems}
        return folders.pop() if len(folders) == 1 else folders.pop().parent

    def _num_rows(self, number: int) -> int:
        return int(self.bounds[number + 1] - self.bounds[number])

    def _num_missing(self) -> int:
        return sum(self._num_rows(number) for number in self.missing())

    def _file_bytes(self, number: int) -> int:
        header = io.BytesIO()
        shape = (self._num_rows(number), *self.shape)
        layout = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, layout)
        return header.tell() + self.dtype.itemsize * prod(shape)

    def _is_complete(self, path: Path, number: int) -> bool:
        try:
            return path.stat().st_size == self._file_bytes(number)
        except FileNotFoundError:
            return False  # another process has just removed it

    def _open(self, number: int) -> Rows:
        """Return a file's rows, mapped into memory; it is made first if missing or damaged."""
        for _ in range(2):
            path = self._intact.get(number) or self._find_intact(number)
            if path is not None:
                try:
                    rows: Rows = np.load(path, mmap_mode="r")
                    return rows
                except (FileNotFoundError, ValueError):
                    self._intact.pop(number, None)
            self._claim(number, seconds=-1)
        raise DdistError(
            f"The {self.what}' file {self.stems[number]} was just written and is damaged again: "
            "check the disk, or set paths.cache (DDIST_CACHE) to another one."
        )

    def _find_intact(self, number: int) -> Path | None:
        """Return the file whose checksum is the one in its name; remove others of its number."""
        stem = self.stems[number]
        for path in stem.parent.glob(f"{stem.name}.*.npy"):
            with suppress(FileNotFoundError, ValueError):  # removed by another process; no .npy
                rows = np.load(path, mmap_mode="r") if self._is_complete(path, number) else None
                if rows is not None and path == _path(stem, rows):
                    self._intact[number] = path
                    return path
            log.warning("The %s' file %s is damaged; it is made anew.", self.what, path)
            path.unlink(missing_ok=True)
        return None

    def _claim(self, number: int, seconds: float) -> bool:
        """Make the rows of a file, if it is not there and can be claimed in time."""
        stem = self.stems[number]
        with sharing.claimed(stem.with_name(f"{stem.name}.lock"), seconds, self.what) as is_mine:
            if is_mine and not any(
                self._is_complete(path, number) for path in stem.parent.glob(f"{stem.name}.*.npy")
            ):
                rows = self.make(*self.bounds[number : number + 2].tolist())
                content = io.BytesIO()
                np.save(content, rows, allow_pickle=False)
                sharing.write_kept(_path(stem, rows), content.getbuffer(), self.what)
        return is_mine


def even_bounds(num_rows: int, rows_per_file: int) -> list[int]:
    """Return the bounds of files of so many rows each, but for the last."""
    return [*range(0, num_rows, rows_per_file), num_rows]


def _path(stem: Path, rows: Rows) -> Path:
    return stem.with_name(f"{stem.name}.{zlib.crc32(rows.data):08x}.npy")


def _stem(path: Path) -> Path:
    return path.with_name(path.name.split(".")[0])
