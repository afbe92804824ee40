"""Real images that stand for all of their class (DREAM, Liu et al. 2023, arXiv 2302.14416)."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddist.data import RealData
from ddist.seeding import generator
from ddist.synthetic.choose import kmeans_embedding

Features = Callable[[int, Tensor], Tensor]


class Representatives:
    """Real batches in the place of random ones: the images nearest to the centres of as many
    clusters, by k-means among random images of their class, in the features of a network.

    The authors cluster all images of a class by the network that is matched; here they are some of
    them, and the network is a draw of ``init``, so that a resumed run finds the same.

    Args:
        data: where images come from.
        features: ``features(batch, x)`` of images [k, M, C, H, W], [k, M, F], in the network of the
            run's batch ``batch``.
        seed: the root of the random choices.
        candidates: images of each class that are clustered.
        every: batches after which others are chosen.
    """

    def __init__(
        self, data: RealData, features: Features, seed: int, candidates: int, every: int
    ) -> None:
        self.data, self.features, self.seed = data, features, seed
        self.candidates, self.every = candidates, every
        self._block, self._rows = -1, torch.empty(0)

    def rows(self, batch: int, per_class: int, rank: int) -> Tensor:
        """Return the indices [K, per_class] of the images for the run's batch ``batch``."""
        block = batch // self.every
        if block != self._block or self._rows.shape[1] != per_class:
            self._block, self._rows = block, self.choose(block, per_class, rank)
        return self._rows

    @torch.no_grad()
    def choose(self, block: int, per_class: int, rank: int) -> Tensor:
        """Return the indices [K, per_class] for the ``every`` batches from ``block`` * ``every``
        on."""
        keys = ("clusters", rank, block)
        candidates = self.data.class_indices(self.candidates, generator(self.seed, *keys))
        rows = []
        for c, of_class in enumerate(candidates):
            images = self.data.images(of_class)[None]
            features = self.features(block * self.every, images)[0].float()
            nearest = kmeans_embedding(features, per_class, generator(self.seed, *keys, c))
            rows.append(of_class[nearest])
        return torch.stack(rows)
