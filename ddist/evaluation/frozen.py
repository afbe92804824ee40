"""Features under a network that is never trained: of any images, and of all in a dataset, which are
kept on disk."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ddist.data import RealData
from ddist.data.ondisk import Images
from ddist.data.split import Split
from ddist.data.whole import fingerprint
from ddist.errors import DdistError
from ddist.init import InitialWeights
from ddist.inner.parts import at_once, footprint
from ddist.inner.stacking import member, mode
from ddist.networks import Network, Weights, embed
from ddist.storage.shards import SHARD_BYTES, Rows, Shards, even_bounds
from ddist.storage.sharing import checksum
from ddist.storage.signature import signature

log = logging.getLogger(__name__)

FOLDER = "features"
"""Of the cache."""
_AT_ONCE = 64  # images in one call on a CPU, whose caches more overflow
_fingerprints: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # of images in memory


@dataclass(frozen=True)
class Frozen:
    """A network with the weights that it always has, up to its last layer."""

    network: nn.Module
    weights: Weights

    @classmethod
    def of(cls, network: nn.Module, init: InitialWeights) -> "Frozen":
        """Return ``network`` on its device, which :func:`check_frozen` accepts."""
        check_frozen(network, init)
        return cls(network, member(init.held_out(network, 1), 0))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features [N, F] of images [N, C, H, W]; differentiable in these."""
        with mode(self.network, training=False):
            return embed(self.network, self.weights, x)

    @torch.no_grad()
    def in_parts(self, x: Tensor) -> Tensor:
        """Return the same without a graph, some images at a time."""
        shape = (x.shape[1], x.shape[2], x.shape[3])
        most = at_once(footprint(self.network, shape).forward(1), x.device)
        most = min(most, _AT_ONCE) if x.device.type == "cpu" else most
        return torch.cat([self(chunk) for chunk in x.split(most)])

    @cached_property
    def signature(self) -> str:
        """A key that changes with all that changes a feature, but for the images."""
        state = {f"buffer {n}": b for n, b in self.network.named_buffers()}
        state |= {n: w for n, w in self.weights.items() if not n.startswith("head.")}
        content = {name: tensor.detach().contiguous().cpu() for name, tensor in state.items()}
        return signature({"network": str(self.network), "weights": checksum(content)})


def check_frozen(network: nn.Module, init: InitialWeights) -> None:
    """Raise a DdistError where the features of ``network`` would be others at every draw of
    ``init``: neither are they published nor is ``init`` a single point."""
    if not (init.single or has_fixed_body(network)):
        raise DdistError(
            "Probes look at the features of a network that stays as it is: choose network=backbone "
            "(whose network.learned is head), or one network for all, such as init=pretrained "
            "init.fixed=true."
        )


def has_fixed_body(network: nn.Module) -> bool:
    """Tell whether all but the network's head is no parameter."""
    return isinstance(network, Network) and next(network.body.parameters(), None) is None


class Features:
    """The features of all images of ``split``, in their order: float32 [N, F].

    They lie in ``<cache>/features/<signature>/<number>.<crc32>.npy``; the signature covers the
    images, their normalisation and the network. See :class:`ddist.storage.shards.Shards` for how
    they get there (processes share the work, which goes on after a kill) and are read.
    """

    def __init__(self, frozen: Frozen, data: RealData, split: Split) -> None:
        self.frozen, self.data, self.split = frozen, data, split
        with torch.no_grad():
            one = torch.zeros(1, *data.image_shape, device=data.device)
            self.width = frozen(one).shape[1]
        rows_per_file = max(1, SHARD_BYTES // (4 * self.width))
        key = {
            "images": of_images(data, split.x),
            "network": frozen.signature,
            "rows": rows_per_file,
        }
        folder = data.cache / FOLDER / signature(key)
        bounds = even_bounds(len(split), rows_per_file)
        stems = [folder / f"{number:06d}" for number in range(len(bounds) - 1)]
        self.shards = Shards(stems, bounds, (self.width,), np.float32, self._embed, FOLDER)

    def __len__(self) -> int:
        return len(self.split)

    def prepare(self) -> "Features":
        """Compute what is missing, together with any other process that does the same.

        Raises:
            DdistError: the disk is too small or cannot be written to.
        """
        images = f"images of {self.data.name}"
        self.shards.prepare("Embedding", "embedded", images, "choose fewer images (dataset.subset)")
        return self

    def rows(self, indices: Tensor) -> Tensor:
        """Return the features [n, F] of the images ``indices`` [n], on the data's device."""
        values = torch.from_numpy(self.shards.read(indices.cpu().numpy()))
        return values.to(self.data.device)

    def batches(self, size: int = 2048) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all features in order with their classes, ``size`` at a time."""
        for indices in torch.arange(len(self)).split(size):
            yield self.rows(indices), self.split.y[indices.to(self.split.y.device)]

    def of_class(self, c: int) -> Tensor:
        """Return the features [n, F] of the images of class ``c``."""
        return self.rows(torch.arange(*self.split.offsets[c : c + 2]))

    def _embed(self, start: int, stop: int) -> Rows:
        chunks = []
        for first in range(start, stop, _AT_ONCE):
            x = self.split.x[first : min(first + _AT_ONCE, stop)]
            chunks.append(self.frozen.in_parts(self.data.normalization(x)).float().cpu())
        values = torch.cat(chunks)
        if not values.isfinite().all():
            raise DdistError(
                "The network's features are no finite numbers: its weights are damaged, or were "
                "trained with another network.mean and network.std."
            )
        array: Rows = values.numpy()
        return array


def of_images(data: RealData, x: Images) -> str:
    """Return 16 hex digits of images and the normalisation, computed once for each tensor."""
    state = data.normalization.state()
    space = [value for value in state.values() if isinstance(value, Tensor)]
    if not isinstance(x, Tensor):
        return fingerprint(x, space, data.cache)
    if x not in _fingerprints:
        _fingerprints[x] = fingerprint(x, [], data.cache)
    return f"{_fingerprints[x]} {fingerprint(torch.empty(0), space, data.cache)}"
