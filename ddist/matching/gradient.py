"""Distance of the gradients of a student on synthetic images from those on real ones."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ddist.matching.root import root

Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
DistanceName = Literal["cosine", "euclidean", "l1", "cosine_magnitude"]

EPS = 1e-6  # of the authors' code, in the cosine's denominator


def distance_by_name(name: DistanceName) -> Distance:
    """Return a function of two lists of gradients, real and synthetic, one tensor [K, *parameter]
    for each parameter, to a scalar: the distance summed over the K classes and the parameters."""
    return {d.__name__: d for d in (cosine, euclidean, l1, cosine_magnitude)}[name]


def cosine(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return the sum over output units of 1 - cos (Zhao et al. 2021, eq. 10). Of each parameter
    ``real`` and ``synthetic`` hold [K, out, *in]; vectors [K, out] (biases, the affine maps of
    normalisation) do not count."""
    return _sum(_angles(r, s) for r, s in _matrices(real, synthetic))


def euclidean(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return the sum of squared differences over all entries of weight matrices and filters,
    [K, out, *in] on both sides (IDC's "mse")."""
    return _sum((r - s).square().sum() for r, s in _matrices(real, synthetic))


def l1(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return the sum of absolute differences over the same entries, [K, out, *in]."""
    return _sum((r - s).abs().sum() for r, s in _matrices(real, synthetic))


def cosine_magnitude(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Return the sum of 1 - cos and the Euclidean distance over output units, [K, out, *in] on both
    sides (Jiang et al. 2023, arXiv 2208.00311: angle and magnitude both matter)."""
    return _sum(_angles(r, s) + _norms(r - s).sum() for r, s in _matrices(real, synthetic))


def _matrices(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the pairs of gradients [K, out, *in] of weights, not of vectors [K, out], as rows of
    output units [K, out, in]."""
    return [
        (r.flatten(2), s.flatten(2)) for r, s in zip(real, synthetic, strict=True) if r.ndim > 2
    ]


def _angles(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the sum of 1 - cos over rows, [K, out, in] on both sides, to a scalar."""
    product = (real * synthetic).sum(-1)
    return (1 - product / (_norms(real) * _norms(synthetic) + EPS)).sum()


def _norms(rows: Tensor) -> Tensor:
    """Return the Euclidean norms [K, out] of rows [K, out, in]."""
    return root(rows.square().sum(-1))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of scalars, one for each parameter."""
    return torch.stack(list(terms)).sum()
