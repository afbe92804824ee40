"""Probes: scikit-learn's own, and gradients by autograd."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from ddist.matching.probe import (
    Moments,
    adamw_probe,
    best,
    cosine_distance,
    head_gradient,
    left_out_error,
    ridge_probe,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=stream, dtype=torch.float64)


def soft(n: int, k: int) -> Tensor:
    return (3 * normal(n, k, seed=7)).softmax(1)


def scikit_learns(phi: Tensor, y: Tensor, ridge: float) -> Any:
    mean_square = float((phi - phi.mean(0)).square().sum() / len(phi))
    return Ridge(alpha=ridge * mean_square, solver="svd").fit(phi.numpy(), y.numpy())


@pytest.mark.parametrize("n", [7, 40])  # fewer and more than features
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_ridge_is_scikit_learns(n: int, ridge: float) -> None:
    phi, y = normal(n, 12) + 3, soft(n, 4)
    model = scikit_learns(phi, y, ridge)
    probe = ridge_probe(phi, y, ridge)
    np.testing.assert_allclose(probe.weight.T.numpy(), model.coef_, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(probe.bias.numpy(), model.intercept_, rtol=1e-7, atol=1e-10)
    x = normal(5, 12, seed=1).float()
    np.testing.assert_allclose(probe(x).numpy(), model.predict(x.numpy()), rtol=1e-6)


def test_sums_in_parts_are_those_of_all() -> None:
    phi, y = normal(40, 6), soft(40, 3)
    whole = Moments.of([(phi, y)])
    parts = Moments.of(zip(phi.split(11), y.split(11), strict=True))
    for ours, theirs in zip(vars(parts).values(), vars(whole).values(), strict=True):
        torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs))
    model = scikit_learns(phi, y, 0.1)
    np.testing.assert_allclose(parts.probe(0.1).weight.T.numpy(), model.coef_, rtol=1e-7)


@pytest.mark.parametrize("n", [7, 40])
def test_the_gradient_through_the_solution(n: int) -> None:
    phi, y, x = normal(n, 12), soft(n, 4), normal(5, 12, seed=1)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        return ridge_probe(features, labels, 0.1)(x).square().sum()

    assert torch.autograd.gradcheck(loss, (phi.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize("views", [1, 3])
def test_what_is_left_out_is_as_if_solved_anew(views: int) -> None:
    n, k = 6, 4
    phi, y = normal(views * n, 9), soft(n, k).repeat(views, 1)
    alpha_over_n = 0.3
    centred, targets = phi - phi.mean(0), y - y.mean(0)
    alpha = alpha_over_n * centred.square().sum() / len(phi)
    missed = []
    for i in range(n):
        own = torch.arange(len(phi)) % n == i
        model = Ridge(alpha=float(alpha), fit_intercept=False, solver="svd")
        model.fit(centred[~own].numpy(), targets[~own].numpy())
        missed.append(targets[own] - torch.from_numpy(model.predict(centred[own].numpy())))
    expected = float(torch.cat(missed).square().mean())
    assert left_out_error(phi, y, alpha_over_n, views) == pytest.approx(expected, rel=1e-6)


def test_adamw_finds_the_loss_of_logistic_regression() -> None:
    phi = normal(200, 5).float()
    noisy = phi[:, :3] + 1.5 * normal(200, 3, seed=2).float()
    classes = noisy.argmax(1)
    y = torch.eye(3)[classes]
    model = LogisticRegression(C=1e6, max_iter=2000).fit(phi.numpy(), classes.numpy())
    expected = -np.log(model.predict_proba(phi.numpy())[np.arange(200), classes.numpy()]).mean()
    probe = adamw_probe(phi[None], y, epochs=1500, lr=0.03, weight_decay=0.0)
    loss = torch.nn.functional.cross_entropy(probe(phi), y)
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_adamw_is_torchs_own_with_a_cosine() -> None:
    phi, y, epochs, lr = normal(1, 6, 4).float(), soft(6, 3).float(), 5, 0.1
    layer = torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr, weight_decay=0.5)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * (1 + np.cos(np.pi * epoch / epochs)) / 2
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(phi[0]), y).backward()
        optimizer.step()
    probe = adamw_probe(phi, y, epochs=epochs, lr=lr, weight_decay=0.5)
    torch.testing.assert_close(probe.weight.T, layer.weight.detach())
    torch.testing.assert_close(probe.bias, layer.bias.detach())


def test_adamw_takes_views_in_turn() -> None:
    """The second view is seen at the second epoch."""
    phi, y = normal(2, 6, 4).float(), soft(6, 3).float()
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.0}
    one = adamw_probe(phi, y, epochs=2, **options)
    same = adamw_probe(phi[:1], y, epochs=2, **options)
    assert not torch.allclose(one.weight, same.weight)


def test_the_largest_of_equal_penalties_is_taken() -> None:
    assert best([0.1, 10.0, 1.0], [0.5, 0.5, 0.2]) == 10.0


def test_head_gradients_are_autograds() -> None:
    phi, y, heads = normal(8, 5), soft(8, 3), normal(2, 5, 3, seed=3)
    for head, ours in zip(heads, head_gradient(phi, y, heads), strict=True):
        weight = head.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(phi @ weight, y)
        torch.testing.assert_close(ours, torch.autograd.grad(loss, weight)[0])


def test_the_distance_and_its_gradient() -> None:
    phi, y, heads = normal(4, 5), soft(4, 3), normal(2, 5, 3, seed=3)
    real = head_gradient(normal(9, 5, seed=4), soft(9, 3), heads)

    def distance(features: Tensor) -> Tensor:
        return cosine_distance(head_gradient(features, y, heads), real)

    assert torch.autograd.gradcheck(distance, phi.requires_grad_())
    by_hand = [
        1 - (a * b).sum() / (a.norm() * b.norm())
        for a, b in zip(head_gradient(phi, y, heads), real, strict=True)
    ]
    torch.testing.assert_close(distance(phi), torch.stack(by_hand).mean())
    torch.testing.assert_close(cosine_distance(3 * real, real), torch.zeros(()).double())
