"""Layers against torch's own."""

import pytest
import torch
from torch import nn

from ddist.networks.layers import AvgPool2x2, LocalResponseNorm, MaxPool2x2
from ddist.seeding import generator


def test_local_response_norm_equals_torchs() -> None:
    x = torch.randn(2, 7, 5, 5, generator=generator(0))
    for size in (1, 3, 4, 5):
        ours = LocalResponseNorm(size, alpha=0.3, beta=0.75, k=1.5)
        theirs = nn.LocalResponseNorm(size, alpha=0.3, beta=0.75, k=1.5)
        torch.testing.assert_close(ours(x), theirs(x))


def test_local_response_norm_second_derivative() -> None:
    x = torch.randn(1, 5, 2, 2, dtype=torch.float64, generator=generator(0), requires_grad=True)
    assert torch.autograd.gradgradcheck(LocalResponseNorm(4, alpha=0.5, beta=0.75, k=1.0), (x,))


@pytest.mark.parametrize(
    ("ours", "torchs"), [(MaxPool2x2(), nn.MaxPool2d(2)), (AvgPool2x2(), nn.AvgPool2d(2))]
)
def test_pooling_is_torchs_with_and_without_a_graph(ours: nn.Module, torchs: nn.Module) -> None:
    for side in (6, 7):
        x = torch.randn(2, 3, side, side + 1, generator=generator(0))
        with torch.no_grad():
            fast = ours(x)
        torch.testing.assert_close(fast, torchs(x))
        torch.testing.assert_close(ours(x), torchs(x))
