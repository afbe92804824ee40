"""Distance of the features of synthetic images from those of real ones, in a kernel's space."""

import torch
from torch import Tensor


def mean_discrepancy(real: Tensor, synthetic: Tensor, scales: Tensor) -> Tensor:
    """Return the sum over classes of the squared maximum mean discrepancy

        mean k(r, r') - 2 mean k(r, s) + mean k(s, s'),
        k(a, b) = mean over scales h of exp(-|a - b|^2 / (h w))

    (Zhang et al. 2024, arXiv 2312.15927, eq. 9, with kernels of several widths). w is the mean
    |r - r'|^2 of the class's real features, so that scales mean the same in every network.
    ``real`` [K, B, F], ``synthetic`` [K, M, F], ``scales`` [H], to a scalar.
    """
    within = torch.cdist(real, real).square()
    pairs = max(1, real.shape[1] * (real.shape[1] - 1))
    width = (within.sum((1, 2)) / pairs).clamp_min(torch.finfo(real.dtype).tiny)

    def kernel(squared: Tensor) -> Tensor:
        exponents = squared[..., None] / (width[:, None, None, None] * scales.to(squared))
        return (-exponents).exp().mean((1, 2, 3))

    crossed, own = (torch.cdist(x, synthetic).square() for x in (real, synthetic))
    return (kernel(within) - 2 * kernel(crossed) + kernel(own)).sum()
