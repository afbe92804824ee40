"""Experts on disk: one file for each epoch of each, complete or not there."""

import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ddist.errors import DdistError
from ddist.folder import write_file
from ddist.networks.base import Weights

log = logging.getLogger(__name__)


class Store:
    """``<folder>/<expert>/<epoch>.safetensors``: an expert's weights after that many epochs, and
    their checksum.

    Args:
        folder: of all experts of one network and one recipe.
        dtype: what the weights are kept in.
        network: whose weights they are.

    Whatever the system refuses (a full disk, a folder that is not writable) is a DdistError.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, network: nn.Module) -> None:
        self.folder, self.dtype = folder, dtype
        self._shapes = {name: p.shape for name, p in network.named_parameters()}

    @cached_property
    def file_bytes(self) -> int:
        """The size of every file."""
        return len(self._encode({name: torch.zeros(s) for name, s in self._shapes.items()}))

    def path(self, expert: int, epoch: int) -> Path:
        return self.folder / f"{expert:04d}" / f"{epoch:03d}.safetensors"

    def has(self, expert: int, epoch: int) -> bool:
        """Whether the file is there and has its size; :meth:`read` looks at all it holds."""
        path = self.path(expert, epoch)
        try:
            with _accessible(path):
                return path.stat().st_size == self.file_bytes
        except FileNotFoundError:
            return False

    def missing(self, experts: Sequence[int], epochs: int) -> list[tuple[int, int]]:
        """(epoch, expert) of each file that is not there, up to ``epochs``, in this order."""
        return [
            (epoch, expert)
            for epoch in range(epochs + 1)
            for expert in experts
            if not self.has(expert, epoch)
        ]

    def read(self, expert: int, epoch: int) -> Weights | None:
        """The weights as they are stored, on the CPU; None where the file is not there. One that is
        damaged is removed and named in the log."""
        path = self.path(expert, epoch)
        try:
            with _accessible(path), safe_open(path, "pt") as file:
                # Clones, because the file is mapped into memory and may be replaced. In the order
                # of the network, not of the file: sums over weights round by it.
                weights = {name: file.get_tensor(name).clone() for name in self._shapes}
                noted = (file.metadata() or {}).get("crc32")
        except FileNotFoundError:
            return None
        except SafetensorError:
            noted, weights = None, {}
        if noted == _checksum(weights):
            return weights
        log.warning("The expert file %s is damaged; it is trained anew.", path)
        with _accessible(path):
            path.unlink(missing_ok=True)
        return None

    def write(self, expert: int, epoch: int, weights: Weights) -> None:
        """Keep the weights (of any dtype, on any device). Only for who has :meth:`claimed` them."""
        path = self.path(expert, epoch)
        partial = path.with_suffix(".partial")
        with _accessible(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_file(partial, self._encode(weights))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    @contextmanager
    def claimed(self, expert: int, seconds: float) -> Iterator[bool]:
        """Whether the group that begins with ``expert`` is this process's alone within the block;
        another that has it is waited for, ``seconds`` long (-1: until it lets go or ends)."""
        lock = FileLock(self.folder / f"{expert:04d}.lock")
        with _accessible(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout):
                lock.acquire(timeout=seconds)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def _encode(self, weights: Weights) -> bytes:
        kept = {n: w.detach().to("cpu", self.dtype).contiguous() for n, w in weights.items()}
        return save(kept, {"crc32": _checksum(kept)})


def _checksum(weights: Weights) -> str:
    """8 hex digits of the names, shapes, types and bytes."""
    found = 0
    for name, tensor in sorted(weights.items()):
        found = zlib.crc32(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode(), found)
        found = zlib.crc32(_bytes(tensor), found)
    return f"{found:08x}"


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.flatten().view(torch.uint8).numpy().data


@contextmanager
def _accessible(path: Path) -> Iterator[None]:
    """What the system refuses within the block, in one sentence; but not that a file is missing."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DdistError(
            f"Cannot use the experts' {path}: {error.strerror or error}; make room or set "
            "paths.cache (DDIST_CACHE) to a folder that can be written to."
        ) from error
