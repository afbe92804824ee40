"""Coresets: real images of each class, chosen by their embedding in a network trained on real data
(see :mod:`ddist.synthetic.choose`)."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddist.data import RealData
from ddist.evaluation.frozen import has_fixed_body
from ddist.init import InitialWeights
from ddist.inner.stacking import member, mode
from ddist.methods.base import Method
from ddist.methods.selection import refuse_tiles
from ddist.networks import embed
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt
from ddist.synthetic import SyntheticData
from ddist.synthetic.choose import choose_of_all, selection


class Coreset(Method):
    """Real images chosen within each class by their embedding; there are no student steps.

    The embedding of an image is ``network.features`` of the run's network: with its published
    weights, where ``init`` or the network has them, else trained on the real data; all training
    images are candidates.

    Args:
        select: "herding", "kcenter" or "kmeans_embedding".
        embedding: makes the one trained network from (source, cache, seed), for example
            :class:`ddist.init.Pretrained` with ``fixed``; not asked for with published weights.
        train_per_class: most images of each class that it is trained on; None for all.
    """

    learns = False
    needs_features = True

    def __init__(
        self,
        *,
        select: Literal["herding", "kcenter", "kmeans_embedding"],
        embedding: Callable[..., InitialWeights],
        train_per_class: PositiveInt | None,
        synthetic: partial[SyntheticData],
        **common: Any,
    ) -> None:
        data: RealData = common["data"]
        choose = selection(select, generator(common["seed"], "coreset"))
        super().__init__(synthetic=partial(synthetic, start="real"), **common)
        refuse_tiles(self.synthetic)
        self.embedding = self.init
        if not has_published_features(self.network, self.init):
            source = data if train_per_class is None else data.limited(train_per_class, "embedding")
            self.embedding = embedding(source=source, cache=data.cache, seed=self.seed)
        counts, offsets = self.images_per_class, data.train.offsets
        indices = choose_of_all(choose, self.embeddings, counts, offsets)
        with torch.no_grad():
            self.synthetic.begin(images=data.images(indices.to(data.device)))

    @torch.no_grad()
    def embeddings(self, c: int) -> Tensor:
        """Return the embeddings [N, F] of the training images of class ``c``."""
        weights = member(self.embedding.held_out(self.network, 1), 0)
        x = self.data.train.x[slice(*self.data.train.offsets[c : c + 2])]
        with mode(self.network, training=False):
            chunks = [self.data.normalization(chunk) for chunk in x.split(_CHUNK)]
            return torch.cat([embed(self.network, weights, chunk) for chunk in chunks])


def has_published_features(network: nn.Module, init: InitialWeights) -> bool:
    """Tell whether the features need no training on the dataset."""
    return init.published or has_fixed_body(network)


_CHUNK = 512  # images embedded at a time
