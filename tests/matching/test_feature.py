"""CAFE's losses against the paper's formulas, written out class by class."""

import pytest
import torch
from torch import Tensor

from ddist.matching.feature import discrimination, layer_distance, stretch

SHAPES = [(3, 4, 5, 5), (3, 6, 2, 2), (3, 24)]  # maps of 3 classes


@pytest.fixture
def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def layers(stream: torch.Generator) -> list[Tensor]:
    return [torch.randn(s, generator=stream, dtype=torch.float64) for s in SHAPES]


def test_the_alignment_is_the_formula(stream: torch.Generator) -> None:
    real, synthetic, weights = layers(stream), layers(stream), [0.1, 0.5, 2.0]
    expected = 0.0
    for weight, r, s in zip(weights, real, synthetic, strict=True):
        for c in range(3):
            for a, b in zip(r[c].flatten(), s[c].flatten(), strict=True):
                expected += weight * float(a - b) ** 2
    assert layer_distance(real, synthetic, weights).item() == pytest.approx(expected, rel=1e-10)
    assert layer_distance(real, real, weights) == 0


def test_the_discrimination_is_the_formula(stream: torch.Generator) -> None:
    real = torch.randn((3, 5, 7), generator=stream, dtype=torch.float64)
    centres = torch.randn((3, 7), generator=stream, dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    for c in range(3):
        for feature in real[c]:
            likeness = torch.stack([feature @ centre for centre in centres])
            expected -= (likeness[c].exp() / likeness.exp().sum()).log()
    torch.testing.assert_close(discrimination(real, centres), expected, rtol=1e-10, atol=0)
    own, other = torch.eye(3), torch.eye(3).roll(1, 0)
    assert discrimination(own[:, None], own) < discrimination(own[:, None], other)


@pytest.mark.parametrize(
    ("num", "expected"),
    [
        (1, [4]),
        (2, [2, 4]),
        (3, [2, 3, 4]),
        (4, [1, 2, 3, 4]),
        (5, [1, 2, 3, 4, 4]),
        (8, [1, 1, 2, 2, 3, 3, 4, 4]),
    ],
)
def test_weights_stretch_from_the_last_layer(num: int, expected: list[float]) -> None:
    assert stretch([1, 2, 3, 4], num) == expected
