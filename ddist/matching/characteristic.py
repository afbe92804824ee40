"""Distance of the features of synthetic images from those of real ones, by their characteristic
functions (Wang et al. 2025, arXiv 2502.20653)."""

import torch
from torch import Tensor

from ddist.matching.root import root


def characteristic_distance(
    real: Tensor, synthetic: Tensor, frequencies: Tensor, alpha: float
) -> Tensor:
    """Return the sum over classes of the mean over frequencies t of

        sqrt( alpha (|r| - |s|)^2 + (1 - alpha) 2 (|r| |s| - Re r Re s - Im r Im s) ),
        r = phi_real(t),   s = phi_synthetic(t),   phi(t) = mean exp(i <t, f>)

    the amplitudes' difference weighed by ``alpha``, the phases' by the rest. ``real`` [K, B, F],
    ``synthetic`` [K, M, F] and ``frequencies`` [T, F] to a scalar.
    """
    real_part, real_imag = characteristic(real, frequencies)
    syn_real, syn_imag = characteristic(synthetic, frequencies)
    apart = (real_part - syn_real).square() + (real_imag - syn_imag).square()  # |r - s|^2
    lengths = root(real_part.square() + real_imag.square())
    amplitudes = (lengths - root(syn_real.square() + syn_imag.square())).square()
    # The second term is |r - s|^2 - (|r| - |s|)^2. Written so, nothing cancels where alpha = 1/2.
    return root((1 - alpha) * apart + (2 * alpha - 1) * amplitudes).mean(1).sum()


def characteristic(features: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary parts [K, T] of phi at ``frequencies`` [T, F], for ``features``
    [K, B, F]. One class after the other: [B, T] is large."""
    angles = (class_features @ frequencies.T for class_features in features)
    rows = [(angle.cos().mean(0), angle.sin().mean(0)) for angle in angles]
    real, imag = zip(*rows, strict=True)
    return torch.stack(real), torch.stack(imag)
