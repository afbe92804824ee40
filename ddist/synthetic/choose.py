"""Choices of real images by their features.

Each takes the features of one class, float [N, F], and gives ``k`` different indices into them,
int64 [k]. It raises a DdistError where there are fewer than ``k`` images.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ddist.errors import DdistError

Select = Callable[[Tensor, int], Tensor]


def selection(name: str, generator: torch.Generator) -> Select:
    """Return the selection called ``name``, whose random choices come from ``generator``."""
    selections: dict[str, Select] = {
        "nearest": nearest,
        "herding": herding,
        "kcenter": kcenter,
        "kmeans_embedding": partial(kmeans_embedding, generator=generator),
    }
    return selections[name]


def choose_of_all(
    choose: Select,
    features: Callable[[int], Tensor],
    counts: Sequence[int],
    offsets: Sequence[int],
) -> Tensor:
    """Return the indices int64 [N] of ``counts`` images of each class c, as chosen by its
    ``features(c)``, which begin at ``offsets[c]``; where a class has fewer, they are repeated in
    turn."""
    indices = []
    for c, (count, offset) in enumerate(zip(counts, offsets, strict=False)):
        of_class = features(c)
        few = min(count, len(of_class))
        chosen = choose(of_class, few).cpu()
        indices.append(offset + chosen[torch.arange(count) % few])
    return torch.cat(indices)


def nearest(features: Tensor, k: int) -> Tensor:
    """Choose the images nearest to the class mean."""
    _check_enough(features, k)
    return (features - features.mean(0)).square().sum(1).argsort(stable=True)[:k]


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
