"""Statistics of features: the loss of methods that invert a network with batch normalisation."""

from collections.abc import Sequence

import torch
from torch import Tensor


def statistics_loss(
    features: Sequence[Tensor],
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    factors: Sequence[float],
) -> Tensor:
    """Return the sum over layers of factor (||mean - mean of the features|| + ||variance -
    theirs||), with Euclidean norms over channels (Yin et al. 2020, DeepInversion).

    Args:
        features: of each layer, [B, C, ...].
        means, variances: what each layer is to have, [C].
        factors: of the layers.
    """
    total = torch.zeros((), device=features[0].device)
    for x, mean, variance, factor in zip(features, means, variances, factors, strict=True):
        flat = x.transpose(0, 1).flatten(1)
        own_mean, own_variance = flat.mean(1), flat.var(1, correction=0)
        total = total + factor * ((own_mean - mean).norm() + (own_variance - variance).norm())
    return total
