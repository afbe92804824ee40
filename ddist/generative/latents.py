"""The latents of a dataset on disk: encoded once, for any number of images per class."""

import logging
from math import prod

import numpy as np

from ddist.artifact.normalization import to_unit
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative.base import Pair
from ddist.generative.quantization import Floats, Integers
from ddist.storage.shards import SHARD_BYTES, Shards, even_bounds
from ddist.storage.signature import signature

log = logging.getLogger(__name__)


class Latents:
    """The latents of all training images of ``data``, in their order, each flattened: float32
    [N, D].

    They lie in ``<cache>/latents/<signature>/<number>.<crc32>.npy``, so many rows to a file; the
    signature covers the images and all that the encoder depends on. See
    :class:`ddist.storage.shards.Shards` for how they get there and are read.

    Args:
        data: with the training images.
        pair: prepared for ``data``.
    """

    def __init__(self, data: RealData, pair: Pair) -> None:
        self.data, self.pair = data, pair
        self.width = prod(pair.latent_shape)
        rows_per_file = max(1, SHARD_BYTES // (4 * self.width))
        key = {"images": data.fingerprint(), "pair": pair.signature, "rows": rows_per_file}
        self.folder = data.cache / "latents" / signature(key)
        bounds = even_bounds(len(data.train), rows_per_file)
        stems = [self.folder / f"{number:06d}" for number in range(len(bounds) - 1)]
        self.shards = Shards(stems, bounds, (self.width,), np.float32, self._encode, "latents")

    def __len__(self) -> int:
        return len(self.data.train)

    def prepare(self) -> None:
        """Encode what is missing, together with any other process that does the same.

        Raises:
            DdistError: the disk is too small or cannot be written to.
        """
        images = f"images of {self.data.name} as latents ({self.pair})"
        if not self.shards.missing():
            log.info("All %s %s are there: %s.", f"{len(self):,}", images, self.folder)
            return
        self.shards.prepare("Encoding", "encoded", images, "choose a smaller generative pair")

    def of_class(self, c: int) -> "Rows":
        """Return the latents of the training images of class ``c``."""
        return Rows(self, *self.data.train.offsets[c : c + 2])

    def read(self, rows: Integers) -> Floats:
        """Read the latents [n, D] of the training images ``rows`` [n]."""
        return self.shards.read(rows)

    def _encode(self, start: int, stop: int) -> Floats:
        """Encode the training images from ``start`` to ``stop``."""

        def encode(first: int) -> Floats:
            pixels = to_unit(self.data.train.x[first : min(first + at_once, stop)])
            latents: Floats = self.pair.encode(pixels).flatten(1).float().cpu().numpy()
            return latents

        at_once = self.pair.images_at_once
        encoded = np.concatenate([encode(first) for first in range(start, stop, at_once)])
        if not np.isfinite(encoded).all():
            raise DdistError(f"The encoder ({self.pair}) gave latents that are no finite numbers.")
        return encoded


class Rows:
    """A range of the latents, which reads from disk what is asked for: ``len``, ``[a:b]`` and
    ``[indices]``."""

    def __init__(self, latents: Latents, start: int, stop: int) -> None:
        self._latents, self._start, self._stop = latents, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, rows: slice | Integers) -> Floats:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return self._latents.read(self._start + rows)
