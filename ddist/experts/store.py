"""Experts on disk: one file for each epoch of each, complete or not there."""

import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from ddist.errors import DdistError
from ddist.networks.base import Weights
from ddist.storage.atomic import write_file_whole
from ddist.storage.sharing import accessible, checksum, claimed, write_kept
from ddist.storage.tensors import read_safetensors

log = logging.getLogger(__name__)


class Store:
    """``<folder>/<expert>/<epoch>.safetensors``: an expert's weights after that many epochs, and
    their checksum; ``<epoch>.json`` beside it, where that was measured: their test accuracy.

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
        """Tell whether the file is there and has its size; :meth:`read` checks all it holds."""
        path = self.path(expert, epoch)
        try:
            with accessible(path, "experts"):
                return path.stat().st_size == self.file_bytes
        except FileNotFoundError:
            return False

    def missing(self, experts: Sequence[int], epochs: int) -> list[tuple[int, int]]:
        """List (epoch, expert) of each file that is not there, up to ``epochs``, in this order."""
        return [
            (epoch, expert)
            for epoch in range(epochs + 1)
            for expert in experts
            if not self.has(expert, epoch)
        ]

    def read(self, expert: int, epoch: int) -> Weights | None:
        """Return the weights as they are stored, on the CPU; None where the file is not there or is
        damaged (it is then removed, and named in the log)."""
        path = self.path(expert, epoch)
        try:
            with accessible(path, "experts"):
                # In the order of the network, not of the file: sums over weights round by it.
                tensors, metadata = read_safetensors(path, self._shapes)
            # Clones, because the file is mapped into memory and may be replaced.
            weights = {name: tensor.clone() for name, tensor in tensors.items()}
            noted = metadata.get("crc32")
        except FileNotFoundError:
            return None
        except SafetensorError:
            noted, weights = None, {}
        if noted == checksum(weights):
            return weights
        log.warning("The expert file %s is damaged; it is trained anew.", path)
        with accessible(path, "experts"):
            path.unlink(missing_ok=True)
        return None

    def write(self, expert: int, epoch: int, weights: Weights) -> None:
        """Keep the weights (any dtype, any device), for the process that :meth:`claimed` them."""
        write_kept(self.path(expert, epoch), self._encode(weights), "experts")

    def accuracy(self, expert: int, epoch: int) -> float | None:
        """Return the test accuracy that was noted for these weights; None without a note."""
        try:
            with accessible(self._note(expert, epoch), "experts"):
                value = json.loads(self._note(expert, epoch).read_bytes())["test_accuracy"]
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None  # the experts of earlier versions have none
        return float(value) if isinstance(value, int | float) else None

    def note_accuracy(self, expert: int, epoch: int, accuracy: float) -> None:
        """Keep the test accuracy, a fraction, where the folder can be written to."""
        content = json.dumps({"test_accuracy": accuracy}).encode()
        with suppress(DdistError):  # else it is measured again the next time
            write_file_whole(self._note(expert, epoch), content)

    def _note(self, expert: int, epoch: int) -> Path:
        return self.path(expert, epoch).with_suffix(".json")

    def claimed(self, expert: int, seconds: float) -> AbstractContextManager[bool]:
        """Hold the group that begins with ``expert`` within the block, if its value is true; wait
        ``seconds`` for another process that has it (-1: until it lets go or ends)."""
        return claimed(self.folder / f"{expert:04d}.lock", seconds, "experts")

    def _encode(self, weights: Weights) -> bytes:
        kept = {n: w.detach().to("cpu", self.dtype).contiguous() for n, w in weights.items()}
        return save(kept, {"crc32": checksum(kept)})
