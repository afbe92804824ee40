"""Optimal quantization: a few points for a distribution that is seen batch by batch.

``x`` is the latents of a class, [N, D], as an array or as anything that reads its rows when they
are asked for (:class:`ddist.generative.latents.Rows`); the memory does not depend on N, but for
eight bytes for each batch.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus
from sklearn.metrics.pairwise import euclidean_distances

from ddist.errors import DdistError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Latent(Protocol):
    """Rows float32 [N, D]."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Floats: ...


@dataclass(frozen=True)
class Cells:
    """What the Voronoi cells of K centroids hold."""

    counts: Integers  # [K]
    nearest: Integers  # [K], the row of a cell that is nearest to its centroid
    error: float  # the mean squared distance of a row to its nearest centroid


def clvq(
    x: Latent,
    k: int,
    *,
    passes: int,
    batch_size: int,
    start_size: int,
    reassignment: float,
    rng: np.random.RandomState,
) -> Floats:
    """Find centroids [k, D] by competitive learning vector quantization (DDOQ's Algorithm 1, step
    2): in each batch, every row moves the centroid nearest to it,

        v_k += 1,  z_k += (z - z_k) / v_k,

    which is mini-batch k-means (Sculley 2010), as scikit-learn's MiniBatchKMeans.partial_fit has
    it: within a batch the nearest centroids are those from before it, and v_k is never forgotten.

    Args:
        passes: over x. A pass goes through the batches, which are consecutive rows, in a random
            order.
        batch_size: rows of a batch at least, and ``k`` at least.
        start_size: random rows of which k-means++ draws where the centroids start.
        reassignment: a centroid with fewer rows than this share of the largest cell's starts again
            from a random row (D4M has scikit-learn's 0.01); 0 for never.
    """
    if not 1 <= k <= len(x):
        raise DdistError(f"{len(x)} latents of a class have no {k} centroids.")
    rows = np.sort(rng.choice(len(x), min(max(start_size, k), len(x)), replace=False))
    start, _ = kmeans_plusplus(x[rows], k, random_state=rng)
    model = MiniBatchKMeans(
        k, init=start, n_init=1, compute_labels=False, reassignment_ratio=reassignment,
        batch_size=batch_size, random_state=rng,
    )  # fmt: skip
    bounds = batch_bounds(len(x), max(batch_size, k))
    for _ in range(passes):
        for b in rng.permutation(len(bounds) - 1):
            model.partial_fit(x[bounds[b] : bounds[b + 1]])
    centroids: Floats = model.cluster_centers_.astype(np.float32)
    return centroids


def cells(x: Latent, centroids: Floats, batch_size: int) -> Cells:
    """Assign each row to the nearest of the ``centroids`` [K, D], in one exact pass. For a centroid
    without rows, ``nearest`` is the nearest row of all."""
    k = len(centroids)
    counts, total = np.zeros(k, np.int64), 0.0
    nearest, least = np.zeros((2, k), np.int64), np.full((2, k), np.inf)  # of its cell; of all
    for first, stop in pairwise(batch_bounds(len(x), batch_size)):
        distances = euclidean_distances(x[first:stop], centroids, squared=True)
        labels = distances.argmin(1)
        counts += np.bincount(labels, minlength=k)
        total += float(distances.min(1).sum(dtype=np.float64))
        of_cell = np.where(labels[:, None] == np.arange(k), distances, np.inf)
        for kind, distances_of in enumerate((of_cell, distances)):
            best = distances_of.argmin(0)
            distance = distances_of[best, np.arange(k)]
            closer = distance < least[kind]
            nearest[kind, closer], least[kind, closer] = first + best[closer], distance[closer]
    of_cell_or_all: Integers = np.where(counts > 0, nearest[0], nearest[1])
    return Cells(counts, of_cell_or_all, total / len(x))


def transport_error(x: Floats, centroids: Floats) -> float:
    """Return W2^2 between the rows of x [n, D] and the uniformly weighted ``centroids`` [K, D], by
    exact transport, for which n has to be a multiple of K."""
    share, rest = divmod(len(x), len(centroids))
    assert share and not rest, "each centroid takes as many rows"
    cost = euclidean_distances(x, centroids, squared=True).repeat(share, axis=1)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean(dtype=np.float64))


def sample(x: Latent, k: int, most: int, rng: np.random.RandomState) -> Floats:
    """Draw random rows of x: the largest multiple of ``k`` within ``most`` and len(x), but at least
    ``k``."""
    size = k * max(1, min(most, len(x)) // k)
    return x[np.sort(rng.choice(len(x), size, replace=False))]


def batch_bounds(num: int, size: int) -> Integers:
    """Return where batches of consecutive rows begin and end: each has at least ``size`` rows, but
    fewer than twice as many, or all."""
    return np.linspace(0, num, max(1, num // size) + 1).astype(np.int64)
