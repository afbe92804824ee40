"""Coresets: real images of each class, chosen by their embedding in a network trained on real data.

Each selection takes the embeddings of one class, float [N, F], and gives ``k`` different indices
into them, int64 [k]. It raises a DdistError where there are fewer than ``k`` images.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import InitialWeights
from ddist.inner.stacking import member, mode
from ddist.methods.base import Method
from ddist.methods.selection import refuse_tiles
from ddist.networks import embed
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt
from ddist.synthetic import SyntheticData

Select = Callable[[Tensor, int], Tensor]


class Coreset(Method):
    """Real images chosen within each class by their embedding; there are no student steps.

    The embedding of an image is ``network.features`` of the run's network, trained on the real
    data; all training images are candidates.

    Args:
        select: "herding", "kcenter" or "kmeans_embedding".
        embedding: makes the one trained network from (source, cache, seed), for example
            :class:`ddist.init.Pretrained` with ``fixed``.
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
        source = data if train_per_class is None else data.limited(train_per_class, "embedding")
        self.embedding = embedding(source=source, cache=data.cache, seed=self.seed)
        starts = data.train.offsets[:-1]
        indices = [
            start + self.chosen(choose, c, count)
            for c, (start, count) in enumerate(zip(starts, self.images_per_class, strict=True))
        ]
        with torch.no_grad():
            self.synthetic.stored()[0].copy_(data.images(torch.cat(indices)))

    def chosen(self, choose: Select, c: int, count: int) -> Tensor:
        """Return the indices (int64, from 0 within class ``c``) of ``count`` images, as chosen;
        where it has fewer, which ``synthetic.scarce=repeat`` allows, they are repeated in turn."""
        embeddings = self.embeddings(c)
        num = min(count, len(embeddings))
        return choose(embeddings, num)[torch.arange(count, device=embeddings.device) % num]

    @torch.no_grad()
    def embeddings(self, c: int) -> Tensor:
        """Return the embeddings [N, F] of the training images of class ``c``."""
        weights = member(self.embedding.held_out(self.network, 1), 0)
        x = self.data.train.x[slice(*self.data.train.offsets[c : c + 2])]
        with mode(self.network, training=False):
            chunks = [self.data.normalization(chunk) for chunk in x.split(_CHUNK)]
            return torch.cat([embed(self.network, weights, chunk) for chunk in chunks])


_CHUNK = 512  # images embedded at a time


def selection(name: str, generator: torch.Generator) -> Select:
    """Return the selection called ``name``, whose random choices come from ``generator``."""
    selections: dict[str, Select] = {
        "herding": herding,
        "kcenter": kcenter,
        "kmeans_embedding": partial(kmeans_embedding, generator=generator),
    }
    return selections[name]


def herding(features: Tensor, k: int) -> Tensor:
    """Choose each image in turn so that the mean of the chosen ones comes closest to the class mean
    (Welling 2009; greedily and without repetition, as Rebuffi et al. 2017, iCaRL)."""
    _check_enough(features, k)
    # The t-th mean misses the class mean by the sum of the chosen deviations, divided by t.
    deviations = features - features.mean(0)
    missed = torch.zeros_like(features[0])
    left = torch.ones(len(features), dtype=torch.bool, device=features.device)
    chosen = []
    for _ in range(k):
        distances = (missed + deviations).square().sum(1)
        nearest = int(distances.where(left, torch.inf).argmin())
        missed += deviations[nearest]
        left[nearest] = False
        chosen.append(nearest)
    return torch.tensor(chosen, device=features.device)


def kcenter(features: Tensor, k: int) -> Tensor:
    """Choose the image nearest to the class mean, then in turn the one farthest from those chosen
    (k-Center-Greedy of Sener & Savarese 2018: its radius is at most twice the smallest one)."""
    _check_enough(features, k)

    def distances(point: Tensor) -> Tensor:
        return (features - point).square().sum(1)

    chosen = [int(distances(features.mean(0)).argmin())]
    nearest = distances(features[chosen[0]])  # of each image, to the chosen ones
    while len(chosen) < k:
        nearest[chosen[-1]] = -1.0  # not again, not even beside identical images
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum(distances(features[chosen[-1]]))
    return torch.tensor(chosen, device=features.device)


def kmeans_embedding(features: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Choose the image nearest to each of the k centroids of k-means (k-means++ start); where two
    centroids share it, the second takes the next (Cui et al. 2022, DC-Bench)."""
    _check_enough(features, k)
    seed = int(torch.randint(2**31, (), generator=generator))
    with warnings.catch_warnings():
        # of fewer different images than k, which the choice below copes with
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(k, n_init=1, random_state=seed).fit(features.cpu().numpy())
    chosen: list[int] = []
    for centroid in torch.from_numpy(clusters.cluster_centers_).to(features):
        distances = (features - centroid).square().sum(1)
        distances[chosen] = torch.inf
        chosen.append(int(distances.argmin()))
    return torch.tensor(chosen, device=features.device)


def _check_enough(features: Tensor, k: int) -> None:
    if not 1 <= k <= len(features):
        raise DdistError(f"{k} images cannot be chosen from {len(features)}.")
