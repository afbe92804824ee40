"""Wang et al. 2018, §3.3: one step of gradient descent on a linear model reaches the optimum from
every initial value if and only if there are at least as many distilled samples as features.

Loss of N real samples (d [N, D], t [N]): ||d theta - t||^2 / 2N; of M distilled ones the same. One
step of size eta: theta_1 = (I - eta/M d~'d~) theta_0 + eta/M d~'t~.
"""

from math import sqrt

import pytest
import torch
from torch import Tensor

from ddist.inner.steps import Batch, Weights, sgd, stacked
from ddist.inner.unroll import unroll
from ddist.seeding import generator

D, N, ETA = 6, 50, torch.tensor(0.3, dtype=torch.float64)


def quadratic(weights: Weights, batch: Batch) -> Tensor:
    d, t = batch
    return (d @ weights["theta"] - t).square().mean() / 2


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed, "theorem", *shape))


def one_step(theta: Tensor, d: Tensor, t: Tensor, eta: Tensor = ETA) -> Tensor:
    """theta_1 [K, D] of each theta_0 [K, D]: the project's own inner loop."""
    return unroll(sgd(stacked(quadratic)), {"theta": theta}, [(d, t)], [eta])["theta"]


@pytest.fixture
def real() -> tuple[Tensor, Tensor]:
    """Real data with noise: no theta fits them exactly."""
    return randn(N, D), randn(N)


def optimum(real: tuple[Tensor, Tensor]) -> Tensor:
    return torch.linalg.lstsq(real[0], real[1][:, None]).solution[:, 0]


def excess(theta: Tensor, real: tuple[Tensor, Tensor]) -> Tensor:
    """Loss beyond the smallest one, of each theta [K, D]."""
    losses = torch.stack([quadratic({"theta": each}, real) for each in theta])
    return losses - quadratic({"theta": optimum(real)}, real)


def construction(m: int, best: Tensor) -> tuple[Tensor, Tensor]:
    """m >= D samples: d~ = sqrt(m / eta) x orthonormal columns, t~ = d~ theta*."""
    columns, _ = torch.linalg.qr(randn(m, D, seed=1))
    d = sqrt(m / float(ETA)) * columns
    return d, d @ best


def test_the_inner_loop_is_the_closed_form() -> None:
    theta, d, t = randn(5, D), randn(3, D), randn(3)
    matrix = torch.eye(D, dtype=torch.float64) - ETA / 3 * d.T @ d
    torch.testing.assert_close(one_step(theta, d, t), theta @ matrix.T + ETA / 3 * d.T @ t)


@pytest.mark.parametrize("m", [D, D + 1, 3 * D])
def test_as_many_samples_as_features_reach_the_optimum_from_anywhere(
    real: tuple[Tensor, Tensor], m: int
) -> None:
    best = optimum(real)
    start = 10 * randn(100, D, seed=2)
    assert excess(start, real).min() > 1
    end = one_step(start, *construction(m, best))
    assert (end - best).abs().max() < 1e-10
    assert excess(end, real).abs().max() < 1e-10


def test_at_the_construction_the_outer_gradient_vanishes(real: tuple[Tensor, Tensor]) -> None:
    d, t = (each.requires_grad_() for each in construction(D, optimum(real)))
    end = one_step(randn(20, D), d, t)
    gradients = torch.autograd.grad(torch.stack([quadratic({"theta": e}, real) for e in end]).sum(),
                                    [d, t])  # fmt: skip
    assert max(g.abs().max() for g in gradients) < 1e-9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_one_sample_fewer_leaves_a_direction_untouched(
    real: tuple[Tensor, Tensor], seed: int, scale: float
) -> None:
    """Whatever the D - 1 samples: along n, which is orthogonal to all of them, nothing moves. So of
    two starts that lie 2 apart along n one ends at least 1 away from the optimum, and its excess
    loss is at least half the smallest eigenvalue of d'd/N."""
    d, t = scale * randn(D - 1, D, seed=seed), scale * randn(D - 1, seed=seed)
    n = torch.linalg.svd(d).Vh[-1]
    start = randn(D, seed=seed) + torch.stack([n, -n])
    end = one_step(start, d, t)
    torch.testing.assert_close(end @ n, start @ n, rtol=1e-9, atol=1e-9)
    smallest = torch.linalg.eigvalsh(real[0].T @ real[0] / N)[0]
    assert smallest > 0.1  # the real data do determine theta
    assert excess(end, real).max() >= smallest / 2


@pytest.mark.parametrize("m", [1, D - 1])
def test_not_even_learning_gets_below_the_bound(real: tuple[Tensor, Tensor], m: int) -> None:
    """Eckart and Young: over starts theta* + u with covariance I the mean excess loss is at least
    half the sum of the D - m smallest eigenvalues of d'd/N; samples that are learned through the
    unrolled step come close and stay above."""
    best = optimum(real)
    # +-sqrt(D) e_i: mean 0 and covariance I, so that the mean of any quadratic is exact.
    start = best + sqrt(D) * torch.cat([torch.eye(D), -torch.eye(D)]).double()
    d, t = randn(m, D, seed=3).requires_grad_(), randn(m, seed=3).requires_grad_()
    adam = torch.optim.Adam([d, t], lr=0.05)
    for _ in range(400):
        adam.zero_grad()
        end = one_step(start, d, t)
        ((end - best) @ real[0].T).square().mean().backward()
        adam.step()
    bound = torch.linalg.eigvalsh(real[0].T @ real[0] / N)[: D - m].sum() / 2
    found = excess(one_step(start, d, t).detach(), real).mean()
    assert bound * (1 - 1e-9) <= found < 1.05 * bound


def test_for_one_known_start_one_sample_suffices(real: tuple[Tensor, Tensor]) -> None:
    best, start = optimum(real), randn(1, D, seed=4)
    d = best - start  # [1, D]: the direction to go
    t = d @ start[0] + 1 / ETA  # and how far: the residual is 1 / eta
    assert (one_step(start, d, t) - best).abs().max() < 1e-10
    other = randn(1, D, seed=5)
    assert excess(one_step(other, d, t), real) > 0.1  # of no use to another start


def test_more_steps_with_one_sample_each_do_what_one_step_cannot(
    real: tuple[Tensor, Tensor],
) -> None:
    """Why DD takes several steps: D steps of one sample, each along its own direction."""
    best = optimum(real)
    rows = torch.linalg.qr(randn(D, D, seed=1))[0] / ETA.sqrt()
    batches = [(row[None], row[None] @ best) for row in rows]
    start = {"theta": 10 * randn(20, D, seed=2)}
    end = unroll(sgd(stacked(quadratic)), start, batches, [ETA] * D)["theta"]
    assert (end - best).abs().max() < 1e-10
