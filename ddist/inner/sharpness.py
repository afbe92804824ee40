"""Gradients that lead to flat minima: sharpness-aware minimisation with the surrogate gap."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddist.networks.base import Weights


def flat_gradient(
    gradient: Callable[[Weights], Weights], weights: Weights, rho: float, alpha: float
) -> Weights:
    """Return the direction that GSAM descends along, for K networks at once (Zhuang et al. 2022,
    algorithm 1; as FTD trains its experts, Du et al. 2023):

        g   = gradient(w),    g_s = gradient(w + rho g / ||g||)
        g_s - alpha (g - its component along g_s)

    Norms and angles are each network's own, over all its weights. ``alpha`` 0 gives SAM (Foret et
    al. 2021), ``rho`` 0 the plain gradient, computed once.

    Args:
        gradient: of the loss at stacked weights [K, ...], likewise stacked.
        weights: stacked [K, ...].
        rho: how far away the sharper gradient is taken, in the Euclidean norm.
        alpha: how strongly the gap between here and there is closed.
    """
    here = gradient(weights)
    if rho == 0:
        return here
    far = _each_times(here, rho / _square(here).sqrt())
    sharp = gradient({n: (w.detach() + far[n]).requires_grad_() for n, w in weights.items()})
    parallel = _each_times(sharp, _inner(here, sharp) / _square(sharp))
    return {n: sharp[n] - alpha * (here[n] - parallel[n]) for n in weights}


def _inner(a: Weights, b: Weights) -> Tensor:
    """Return the inner products [K] of two stacks."""
    return torch.stack([(a[n] * b[n]).flatten(1).sum(1) for n in a]).sum(0)


def _square(a: Weights) -> Tensor:
    """Return squared norms [K]; never 0, so that a gradient of 0 can be divided by its norm."""
    square = _inner(a, a)
    return square.clamp_min(torch.finfo(square.dtype).tiny)


def _each_times(stack: Weights, factors: Tensor) -> Weights:
    """Multiply each network of a stack by its own of the ``factors`` [K]."""
    return {n: t * factors.view(-1, *[1] * (t.ndim - 1)) for n, t in stack.items()}
