"""Images that stay on disk: datasets larger than memory."""

import hashlib
from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from torch import Tensor

from ddist.storage.shards import Shards

GPU_SHARE = 0.5
"""Of a GPU's free memory, which a split may take to be moved there whole."""

PART_BYTES = 2**22


class OnDisk:
    """uint8 images [N, C, H, W] that are read when they are asked for: ``x[a:b]`` and
    ``x[indices]`` (int64 [M], on any device, in any order) are tensors on ``device``, in memory of
    their own.

    Args:
        shards: of images.
        rows: which of them, in which order: a range of step 1, or int64 [N] on the CPU.
        key: changes with the images of ``shards``.
        device: of what is read.
    """

    dtype = torch.uint8

    def __init__(
        self, shards: Shards, rows: range | Tensor, key: str, device: torch.device | str = "cpu"
    ) -> None:
        self.shards, self.rows, self._key = shards, rows, key
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.shards.shape))

    @property
    def num_bytes(self) -> int:
        return prod(self.shape)

    @property
    def key(self) -> str:
        """16 hex digits that change with the images or their order; nothing is read."""
        digest = hashlib.blake2b(self._key.encode(), digest_size=8)
        is_range = isinstance(self.rows, range)
        digest.update(str(self.rows).encode() if is_range else np.asarray(self.rows).tobytes())
        return digest.hexdigest()

    def __getitem__(self, wanted: slice | Tensor) -> Tensor:
        rows = np.asarray(self._rows(wanted), np.int64)
        return torch.from_numpy(self.shards.read(rows)).to(self.device)

    def part(self, start: int, stop: int) -> "OnDisk":
        """Return the images from ``start`` to ``stop`` without reading them."""
        return OnDisk(self.shards, self.rows[start:stop], self._key, self.device)

    def pick(self, indices: Tensor) -> "OnDisk":
        """Return the images at ``indices`` (int64 [M]) without reading them."""
        return OnDisk(self.shards, self._rows(indices), self._key, self.device)

    def to(self, device: torch.device | str) -> "Tensor | OnDisk":
        """Return the same images, read to ``device``; as a tensor there if it is a GPU and all of
        them take at most half of its free memory."""
        device = torch.empty(0, device=device).device  # "cuda" is "cuda:0", say
        if device == self.device:
            return self
        moved = OnDisk(self.shards, self.rows, self._key, device)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            return moved.in_memory() if self.num_bytes <= GPU_SHARE * free else moved
        return moved

    def in_memory(self) -> Tensor:
        """Read all images into one tensor on the device."""
        x = torch.empty(self.shape, dtype=torch.uint8, device=self.device)
        start = 0
        for chunk in parts(self):
            x[start : start + len(chunk)] = chunk
            start += len(chunk)
        return x

    def _rows(self, wanted: slice | Tensor) -> range | Tensor:
        if isinstance(wanted, slice):
            return self.rows[wanted]
        indices = wanted.cpu()
        if isinstance(self.rows, Tensor):
            return self.rows[indices]
        return self.rows.start + torch.where(indices < 0, indices + len(self), indices)


Images = Tensor | OnDisk
"""uint8 [N, C, H, W], of which batches are tensors."""


def parts(x: Images, size: int | None = None) -> Iterator[Tensor]:
    """Yield all of ``x`` in order, at most ``size`` images at a time; None for about 4 MiB."""
    size = max(1, PART_BYTES // prod(x.shape[1:])) if size is None else size
    for start in range(0, len(x), size):
        yield x[start : start + size]
