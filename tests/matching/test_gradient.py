"""Gradient distances against the papers' formulas, written out entry by entry."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddist.matching.gradient import distance_by_name

SHAPES = [(3, 6, 2, 3, 3), (3, 6), (3, 4, 6), (3, 4)]  # a convolution, a linear layer; 3 classes
Pair = tuple[list[Tensor], list[Tensor]]


@pytest.fixture
def pair() -> Pair:
    stream = torch.Generator().manual_seed(0)

    def draw() -> list[Tensor]:
        return [torch.randn(s, generator=stream, dtype=torch.float64) for s in SHAPES]

    return draw(), draw()


def rows(gradients: list[Tensor]) -> list[Tensor]:
    """Each class's gradient of each output unit of each weight, without biases."""
    return [
        row.flatten()
        for gradient in gradients
        for one_class in gradient
        if one_class.ndim > 1
        for row in one_class
    ]


def by_hand(pair: Pair, of_row: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return torch.stack([of_row(r, s) for r, s in zip(*map(rows, pair), strict=True)]).sum()


def angle(r: Tensor, s: Tensor) -> Tensor:
    return 1 - (r @ s) / (r.norm() * s.norm() + 1e-6)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": angle,
    "euclidean": lambda r, s: ((r - s) ** 2).sum(),
    "l1": lambda r, s: (r - s).abs().sum(),
    "cosine_magnitude": lambda r, s: angle(r, s) + (r - s).norm(),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_it_is_the_formula(pair: Pair, name: str) -> None:
    ours = distance_by_name(name)(*pair)
    torch.testing.assert_close(ours, by_hand(pair, FORMULAS[name]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", FORMULAS)
def test_equal_gradients_are_at_distance_zero(pair: Pair, name: str) -> None:
    assert abs(distance_by_name(name)(pair[0], pair[0])) < 1e-4


def test_the_cosine_ignores_the_scale_of_a_row_and_the_magnitude_does_not(pair: Pair) -> None:
    real, synthetic = pair
    scaled = [s.clone() for s in synthetic]
    scaled[0][1, 2] *= 7.0
    scaled[2][0, 3] *= 0.1
    cosine, magnitude = distance_by_name("cosine"), distance_by_name("cosine_magnitude")
    torch.testing.assert_close(cosine(real, scaled), cosine(real, synthetic), rtol=1e-5, atol=0)
    assert abs(magnitude(real, scaled) - magnitude(real, synthetic)) > 1


@pytest.mark.parametrize("name", FORMULAS)
def test_biases_do_not_count(pair: Pair, name: str) -> None:
    real, synthetic = pair
    other = [s + 1 if s.ndim == 2 else s for s in synthetic]
    distance = distance_by_name(name)
    assert distance(real, other) == distance(real, synthetic)


@pytest.mark.parametrize("name", FORMULAS)
def test_dead_units_have_finite_derivatives(pair: Pair, name: str) -> None:
    real, synthetic = pair
    real[0][0, 1] = 0
    dead = [s.clone().requires_grad_() for s in synthetic]
    with torch.no_grad():
        dead[0][0, 1] = 0
        dead[2][1] = 0
    loss = distance_by_name(name)(real, dead)
    for derivative in torch.autograd.grad(loss, dead, materialize_grads=True):
        assert derivative.isfinite().all()
