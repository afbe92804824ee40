"""Kernel ridge regression against the formula with an explicit inverse, and least squares."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.kernels import FullyConnected
from ddist.matching.kernel import coefficients, head, krr_loss, solve_labels, targets

RIDGE = 1e-3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def kernel() -> FullyConnected:
    return FullyConnected(
        depth=1, activation="relu", weight_std=1.4, bias_std=0.1, kind="ntk", memory=100.0
    )


@pytest.fixture
def problem(kernel: FullyConnected) -> Callable[[], tuple[Tensor, ...]]:
    """K_ss, K_ts, y_s, y_t of 6 images and 50 targets, with gradients in the images."""

    def make() -> tuple[Tensor, ...]:
        x_s, x_t = draw(6, 1, 4, 4).requires_grad_(), draw(50, 1, 4, 4, seed=1)
        y_s, y_t = targets(torch.arange(6) % 3, 3), targets(torch.arange(50) % 3, 3)
        return kernel(x_s, x_s), kernel(x_t, x_s), y_s, y_t, x_s

    return make


def by_hand(k_ss: Tensor, k_ts: Tensor, y_s: Tensor, y_t: Tensor) -> Tensor:
    regularised = k_ss + RIDGE * k_ss.trace() / len(k_ss) * torch.eye(len(k_ss)).double()
    predicted = k_ts @ torch.linalg.inv(regularised) @ y_s
    total = sum((a - b) ** 2 for a, b in zip(predicted.flatten(), y_t.flatten(), strict=True))
    assert isinstance(total, Tensor)
    return total / y_t.numel() / 2


def test_targets_are_centred() -> None:
    expected = torch.tensor([[0.75, -0.25, -0.25, -0.25], [-0.25, -0.25, 0.75, -0.25]]).double()
    torch.testing.assert_close(targets(torch.tensor([0, 2]), 4), expected)
    soft = torch.tensor([[0.5, 0.5, 0.0, 0.0], [2.0, -1.0, 0.0, 0.0]])
    torch.testing.assert_close(targets(soft, 4), soft.double() - 0.25)


def test_loss_and_gradient_are_the_papers(problem: Callable[[], tuple[Tensor, ...]]) -> None:
    *parts, x_s = problem()
    loss, expected = krr_loss(*parts, RIDGE), by_hand(*parts)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    (ours,) = torch.autograd.grad(loss, x_s, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, x_s)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("num", [5, 30])
def test_the_head_is_ridge_regression_in_the_features(num: int) -> None:
    """Fewer images than features and more: the minimum of |Phi W - y|^2 + ridge |W|^2."""
    features, y = draw(num, 12), draw(num, 3, seed=1)
    penalty = RIDGE * features.square().sum() / num
    padded = torch.cat([features, penalty.sqrt() * torch.eye(12).double()])
    expected = torch.linalg.lstsq(padded, torch.cat([y, torch.zeros(12, 3).double()])).solution
    torch.testing.assert_close(head(features, y, RIDGE), expected, rtol=1e-8, atol=1e-10)


def test_regression_interpolates_as_the_ridge_goes_to_zero(kernel: FullyConnected) -> None:
    x = draw(8, 1, 4, 4)
    k, y = kernel(x, x), targets(torch.arange(8) % 3, 3)
    errors = [(k @ coefficients(k, y, ridge) - y).abs().max() for ridge in (1e-1, 1e-4, 1e-8, 0.0)]
    assert errors[0] > 1e-2 and errors[-1] < 1e-12
    assert errors == sorted(errors, reverse=True)


def test_solved_labels_have_the_least_squared_error(
    problem: Callable[[], tuple[Tensor, ...]],
) -> None:
    """Least squares in the labels, which the coefficients are linear in."""
    k_ss, k_ts, _, y_t, _ = (each.detach() for each in problem())
    design = k_ts @ coefficients(k_ss, torch.eye(6).double(), RIDGE)
    exact = torch.linalg.lstsq(design, y_t).solution

    def loss(y_s: Tensor) -> float:
        return krr_loss(k_ss, k_ts, y_s, y_t, RIDGE).item()

    found = solve_labels(k_ss, [(k_ts, y_t)], 1e-12)
    torch.testing.assert_close(
        design @ found, k_ts @ coefficients(k_ss, found, RIDGE), rtol=1e-10, atol=1e-12
    )
    # another ridge than in the loss changes the labels and not what they predict
    best = k_ts @ coefficients(k_ss, found, 1e-12)
    torch.testing.assert_close(best, design @ exact, rtol=1e-6, atol=1e-8)
    ridged = solve_labels(k_ss, [(k_ts, y_t)], RIDGE)
    assert loss(exact) <= loss(ridged) < 1.01 * loss(exact)


def test_labels_are_solved_on_all_parts_together(problem: Callable[[], tuple[Tensor, ...]]) -> None:
    k_ss, k_ts, _, y_t, _ = problem()
    parts = list(zip(k_ts.split(20), y_t.split(20), strict=True))
    whole = solve_labels(k_ss, [(k_ts, y_t)], RIDGE)
    torch.testing.assert_close(solve_labels(k_ss, parts, RIDGE), whole, rtol=1e-10, atol=1e-12)


def test_the_gradient_at_solved_labels_is_that_of_the_least_error(
    problem: Callable[[], tuple[Tensor, ...]],
) -> None:
    """Where the error is least in the labels, they may be held fixed (the envelope theorem)."""
    k_ss, k_ts, _, y_t, x_s = problem()
    y_s = solve_labels(k_ss.detach(), [(k_ts.detach(), y_t)], 1e-12)
    fixed = torch.autograd.grad(krr_loss(k_ss, k_ts, y_s, y_t, 1e-12), x_s, retain_graph=True)[0]
    left = y_t - k_ts @ torch.linalg.lstsq(k_ts, y_t).solution
    through = torch.autograd.grad(0.5 * left.square().mean(), x_s)[0]
    torch.testing.assert_close(fixed, through, rtol=1e-6, atol=1e-9)


def test_what_cannot_be_factorised_is_a_sentence() -> None:
    ones, y = torch.ones(3, 3).double(), torch.zeros(3, 2).double()
    with pytest.raises(DdistError, match=r"3 images cannot be factorised with a ridge of 0, as"):
        coefficients(ones - 1e-12, y, 0.0)
    assert coefficients(ones, y, 1e-6).isfinite().all()
    ones[1, 0] = torch.nan
    with pytest.raises(DdistError, match=r"not finite numbers, as the images have diverged"):
        coefficients(ones, y, 1e-6)
