"""NCFM's loss against the paper's formula, written out frequency by frequency."""

import cmath
import math

import pytest
import torch
from torch import Tensor

from ddist.matching.characteristic import characteristic_distance


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def phi(features: Tensor, t: Tensor) -> complex:
    return sum(cmath.exp(1j * float(t @ f)) for f in features) / len(features)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_it_is_the_formula(alpha: float) -> None:
    real, synthetic, frequencies = draw(3, 6, 5), draw(3, 2, 5, seed=1), draw(7, 5, seed=2)
    expected = 0.0
    for c in range(3):
        for t in frequencies:
            r, s = phi(real[c], t), phi(synthetic[c], t)
            amplitude = (abs(r) - abs(s)) ** 2
            phase = 2 * (abs(r) * abs(s) - r.real * s.real - r.imag * s.imag)
            expected += math.sqrt(alpha * amplitude + (1 - alpha) * phase) / len(frequencies)
    ours = characteristic_distance(real, synthetic, frequencies, alpha)
    assert ours.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_equal_features_are_at_distance_zero_with_finite_derivatives(alpha: float) -> None:
    real, frequencies = draw(2, 4, 5), draw(7, 5, seed=2)
    synthetic = real.flip(1).requires_grad_()
    distance = characteristic_distance(real, synthetic, frequencies, alpha)
    assert distance < 1e-6
    (gradient,) = torch.autograd.grad(distance, synthetic)
    assert gradient.isfinite().all()


def test_a_vanishing_function_has_a_finite_derivative() -> None:
    """Of angles -pi/2 and pi/2 the mean is 0: the root's derivative there is infinite."""
    synthetic = torch.tensor([[[-math.pi / 2], [math.pi / 2]]], dtype=torch.float64)
    synthetic.requires_grad_()
    frequencies = torch.zeros(1, 1, dtype=torch.float64)  # phi(0) = 1 whatever the features
    for t in (frequencies, frequencies + 1):
        distance = characteristic_distance(draw(1, 3, 1), synthetic, t, 0.7)
        (gradient,) = torch.autograd.grad(distance, synthetic)
        assert gradient.isfinite().all()
