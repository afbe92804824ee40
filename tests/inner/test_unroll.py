"""The inner loop against plain autograd, closed forms and torch's own SGD, in float64."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from ddist.inner.unroll import (
    classification_loss,
    sgd,
    stacked,
    unroll,
    with_momentum,
    without_momentum,
)


@pytest.fixture
def problem():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    weights = {k: v.detach().clone() for k, v in network.named_parameters()}
    x = torch.randn(4, 7, 6, dtype=torch.float64, requires_grad=True)  # 4 batches of 7
    y = torch.randint(3, (4, 7))
    sizes = (0.1 + torch.rand(4, dtype=torch.float64)).requires_grad_()
    target = (torch.randn(20, 6, dtype=torch.float64), torch.randint(3, (20,)))
    return network, weights, x, y, sizes, target


def outer_gradient(problem, momentum=0.0, soft=False, **options):
    network, weights, x, y, sizes, target = problem
    loss = classification_loss(network)
    labels = one_hot(y, 3).double() if soft else y
    start = with_momentum(weights) if momentum else weights
    end = unroll(sgd(loss, momentum), start, list(zip(x, labels, strict=True)), sizes, **options)
    outer = loss(without_momentum(end), target)
    return outer, torch.autograd.grad(outer, [x, sizes])


def by_hand(problem, momentum=0.0, first=0):
    """Plain autograd, written out: nothing of ddist."""
    network, weights, x, y, sizes, (x_out, y_out) = problem
    w = {k: v.clone().requires_grad_() for k, v in weights.items()}
    v = {k: torch.zeros_like(p) for k, p in w.items()}
    for t in range(4):
        inner = cross_entropy(functional_call(network, w, (x[t],)), y[t])
        g = torch.autograd.grad(inner, list(w.values()), create_graph=True)
        v = {k: momentum * v[k] + each for k, each in zip(w, g, strict=True)}
        w = {k: w[k] - sizes[t] * v[k] for k in w}
        if t < first:
            w = {k: p.detach().requires_grad_() for k, p in w.items()}
            v = {k: p.detach() for k, p in v.items()}
    outer = cross_entropy(functional_call(network, w, (x_out,)), y_out)
    return outer, torch.autograd.grad(outer, [x, sizes])


@pytest.mark.parametrize("graph", ["checkpoint", "autograd"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_is_that_of_plain_autograd(problem, graph, momentum):
    expected, expected_gradient = by_hand(problem, momentum)
    loss, gradient = outer_gradient(problem, momentum, graph=graph)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-14)
    for ours, theirs in zip(gradient, expected_gradient, strict=True):
        assert theirs.abs().max() > 1e-4  # there is something to compare
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("graph", ["checkpoint", "autograd"])
def test_gradient_agrees_with_finite_differences(problem, graph):
    network, weights, _, y, _, target = problem
    loss = classification_loss(network)

    def outer(x, sizes):
        end = unroll(sgd(loss), weights, list(zip(x, y, strict=True)), sizes, graph=graph)
        return loss(end, target)

    assert torch.autograd.gradcheck(outer, (problem[2], problem[4]), fast_mode=True)


@pytest.mark.parametrize("graph", ["checkpoint", "autograd"])
def test_window_differentiates_the_last_steps_only(problem, graph):
    _, (expected_x, expected_sizes) = by_hand(problem, first=2)
    loss, (gradient_x, gradient_sizes) = outer_gradient(problem, graph=graph, window=2)
    torch.testing.assert_close(loss, by_hand(problem)[0])  # the forward is whole
    torch.testing.assert_close(gradient_x[2:], expected_x[2:])
    torch.testing.assert_close(gradient_sizes[2:], expected_sizes[2:])
    assert not gradient_x[:2].any() and not gradient_sizes[:2].any()


def test_one_hot_soft_labels_equal_hard_labels(problem):
    hard, hard_gradient = outer_gradient(problem)
    soft, soft_gradient = outer_gradient(problem, soft=True)
    torch.testing.assert_close(soft, hard)
    torch.testing.assert_close(soft_gradient, hard_gradient)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_forward_is_torchs_sgd(problem, momentum):
    network, weights, x, y, _, _ = problem
    sizes = torch.full((4,), 0.05, dtype=torch.float64)
    start = with_momentum(weights) if momentum else weights
    step = sgd(classification_loss(network), momentum)
    with torch.no_grad():
        ours = without_momentum(unroll(step, start, list(zip(x, y, strict=True)), sizes))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=momentum)
    for t in range(4):
        optimizer.zero_grad()
        cross_entropy(network(x[t].detach()), y[t]).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(ours[name], parameter.detach())
        assert not ours[name].requires_grad


def test_stacked_networks_get_the_gradients_they_would_get_alone(problem):
    network, weights, x, y, sizes, _ = problem
    both = {k: torch.stack([v, 2 * v]) for k, v in weights.items()}
    batches = list(zip(x, y, strict=True))
    together = unroll(sgd(stacked(classification_loss(network))), both, batches, sizes)
    for k in range(2):
        alone = {name: v[k] for name, v in both.items()}
        expected = unroll(sgd(classification_loss(network)), alone, batches, sizes)
        for name in alone:
            torch.testing.assert_close(together[name][k], expected[name])
    (gradient,) = torch.autograd.grad(sum(v.sum() for v in together.values()), [x])
    assert gradient.abs().max() > 0


def test_unknown_graph_is_refused(problem):
    with pytest.raises(ValueError, match="checkpoint"):
        outer_gradient(problem, graph="none")


def test_different_numbers_of_batches_and_step_sizes_are_refused(problem):
    network, weights, x, y, sizes, _ = problem
    with pytest.raises(ValueError, match="shorter"):
        unroll(sgd(classification_loss(network)), weights, list(zip(x, y, strict=True)), sizes[:3])
