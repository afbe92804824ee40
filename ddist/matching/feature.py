"""Distance of the features of synthetic images from those of real ones, layer by layer, and how
well the synthetic ones tell real images apart (Wang et al. 2022, arXiv 2203.01531)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def layer_distance(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], weights: Sequence[float]
) -> Tensor:
    """Return sum_l lambda_l sum_c | mean f_l(x_real^c) - mean f_l(x_syn^c) |^2: the alignment of
    layers, with squares summed over all entries of a map.

    ``real`` and ``synthetic`` are, for each layer, the means [K, *map] of the K classes;
    ``weights`` are the lambda_l (see :func:`stretch`).
    """
    lambdas = stretch(weights, len(real))
    pairs = zip(real, synthetic, lambdas, strict=True)
    return torch.stack([weight * (r - s).square().sum() for r, s, weight in pairs]).sum()


def discrimination(real: Tensor, centres: Tensor) -> Tensor:
    """Return -sum_c sum_i log softmax(<f(x_real^(c,i)), centre_k>)_(k=c): the cross-entropy,
    summed over real features [K, B, F], of telling their class by its likeness to the ``centres``
    [K, F], the mean synthetic features of each class."""
    labels = torch.arange(len(real), device=real.device).repeat_interleave(real.shape[1])
    return cross_entropy(real.flatten(0, 1) @ centres.T, labels, reduction="sum")


def stretch(weights: Sequence[float], num: int) -> list[float]:
    """Return ``weights`` of a network with as many layers, for one with ``num``: each stands for an
    equal part of the depth, counted from the last layer. [0.1, 0.1, 1, 1] is [0.1, 0.1, 1, 1, 1]
    for five layers and [0.1, 1] for two."""
    count = len(weights)
    return [weights[count - 1 - (num - 1 - layer) * count // num] for layer in range(num)]
