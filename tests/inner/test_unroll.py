"""The inner loop against plain autograd, closed forms and torch's own SGD and Adam, in float64."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from ddist.inner import recall
from ddist.inner.steps import (
    adam,
    classification_loss,
    only_weights,
    sgd,
    stacked,
    with_moments,
    with_momentum,
)
from ddist.inner.unroll import unroll
from ddist.networks import ConvNet


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
    outer = loss(only_weights(end), target)
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
        ours = only_weights(unroll(step, start, list(zip(x, y, strict=True)), sizes))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=momentum)
    for t in range(4):
        optimizer.zero_grad()
        cross_entropy(network(x[t].detach()), y[t]).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(ours[name], parameter.detach())
        assert not ours[name].requires_grad


def adam_by_hand(problem, first=0):
    """Plain autograd through Adam as torch.optim.Adam has it, with eps = 0."""
    network, weights, x, y, sizes, (x_out, y_out) = problem
    w = {k: p.clone().requires_grad_() for k, p in weights.items()}
    m, v = ({k: torch.zeros_like(p) for k, p in w.items()} for _ in range(2))
    for t in range(4):
        inner = cross_entropy(functional_call(network, w, (x[t],)), y[t])
        g = torch.autograd.grad(inner, list(w.values()), create_graph=True)
        g = dict(zip(w, g, strict=True))
        m = {k: 0.9 * m[k] + 0.1 * g[k] for k in w}
        v = {k: 0.999 * v[k] + 0.001 * g[k] ** 2 for k in w}
        m_hat = {k: m[k] / (1 - 0.9 ** (t + 1)) for k in w}
        v_hat = {k: v[k] / (1 - 0.999 ** (t + 1)) for k in w}
        w = {k: w[k] - sizes[t] * m_hat[k] / v_hat[k].sqrt() for k in w}
        if t < first:
            w = {k: p.detach().requires_grad_() for k, p in w.items()}
            m, v = ({k: p.detach() for k, p in each.items()} for each in (m, v))
    outer = cross_entropy(functional_call(network, w, (x_out,)), y_out)
    return outer, torch.autograd.grad(outer, [x, sizes])


@pytest.mark.parametrize("window", [None, 4, 2])
@pytest.mark.parametrize("graph", ["checkpoint", "selective", "autograd"])
def test_adams_gradient_is_that_of_plain_autograd(problem, graph, window):
    network, weights, x, y, sizes, target = problem
    loss = classification_loss(network)
    batches = list(zip(x, y, strict=True))
    end = unroll(
        adam(loss, eps=1e-30), with_moments(weights), batches, sizes, graph=graph, window=window
    )
    outer = loss(only_weights(end), target)
    found = torch.autograd.grad(outer, [x, sizes])
    expected, expected_gradient = adam_by_hand(problem, first=2 if window == 2 else 0)
    torch.testing.assert_close(outer, expected, rtol=1e-9, atol=0)
    for ours, theirs in zip(found, expected_gradient, strict=True):
        assert theirs.abs().max() > 1e-4  # there is something to compare
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_forward_is_torchs_adam(problem, betas):
    """And goes on from where it was: moments and the count of steps are in the state."""
    network, weights, x, y, _, _ = problem
    step, size = adam(classification_loss(network), betas), torch.tensor(0.05).double()
    state, batches = with_moments(weights), list(zip(x, y, strict=True))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, betas=betas)
    for part in (slice(0, 3), slice(3, 4)):
        with torch.no_grad():
            state = unroll(step, state, batches[part], [size] * len(batches[part]))
        for images, labels in batches[part]:
            optimizer.zero_grad()
            cross_entropy(network(images.detach()), labels).backward()
            optimizer.step()
        for name, parameter in network.named_parameters():
            # eps: 1e-8 beside the root or within it, of gradients of about 1e-2
            torch.testing.assert_close(
                only_weights(state)[name], parameter.detach(), rtol=0, atol=0.05 * 1e-4
            )
    assert all(not each.requires_grad for each in state.values())


def test_adam_is_finite_where_a_weight_has_no_gradient(problem):
    """The slope of sqrt(v) is infinite at v = 0."""
    network, weights, x, y, sizes, target = problem
    with torch.no_grad():
        x[:, :, 0] = 0  # an input that is never there: its weights stay as they are
    loss = classification_loss(network)
    for graph in ("checkpoint", "autograd"):
        batches = list(zip(x, y, strict=True))
        end = unroll(adam(loss), with_moments(weights), batches, sizes, graph=graph)
        assert torch.equal(end["0.weight"][:, 0], weights["0.weight"][:, 0])
        gradient = torch.autograd.grad(loss(only_weights(end), target), [x, sizes])
        assert all(each.isfinite().all() and each.abs().max() > 0 for each in gradient)


@pytest.mark.parametrize("graph", ["checkpoint", "autograd"])
def test_adams_gradient_agrees_with_finite_differences(problem, graph):
    network, weights, _, y, _, target = problem
    loss = classification_loss(network)

    def outer(x, sizes):
        batches = list(zip(x, y, strict=True))
        end = unroll(adam(loss), with_moments(weights), batches, sizes, graph=graph)
        return loss(only_weights(end), target)

    assert torch.autograd.gradcheck(outer, (problem[2], problem[4] / 10), fast_mode=True)


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


def test_different_numbers_of_batches_and_step_sizes_are_refused(problem):
    network, weights, x, y, sizes, _ = problem
    with pytest.raises(ValueError, match="shorter"):
        unroll(sgd(classification_loss(network)), weights, list(zip(x, y, strict=True)), sizes[:3])


def test_first_order_is_exact_for_one_step_and_worse_for_more(problem):
    """TESLA's gradient against the exact one: equal at T = 1, further off the longer the way."""
    network, weights, x, y, _, target = problem
    loss = classification_loss(network)

    def gradients(steps, size, graph):
        batches = [(x[t % 4], y[t % 4]) for t in range(steps)]
        end = unroll(sgd(loss), weights, batches, [size] * steps, graph=graph)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss(end, target), [x, size])])

    def cosine(steps, rate):
        size = torch.tensor(rate, dtype=torch.float64, requires_grad=True)
        exact, cheap = (gradients(steps, size, each) for each in ("checkpoint", "first_order"))
        return torch.cosine_similarity(exact, cheap, dim=0).item()

    size = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(
        gradients(1, size, "first_order"), gradients(1, size, "autograd"), rtol=1e-12, atol=0
    )
    assert cosine(20, 0.01) > 0.99 > cosine(20, 0.5) > cosine(50, 0.5)


def test_first_order_is_exact_for_one_step_of_adam(problem):
    network, weights, x, y, sizes, target = problem
    loss, found = classification_loss(network), []
    for graph in ("first_order", "autograd"):
        batches = list(zip(x, y, strict=True))
        end = unroll(adam(loss), with_moments(weights), batches, sizes, graph=graph, window=1)
        found.append(torch.autograd.grad(loss(only_weights(end), target), [x, sizes]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-14)
    assert found[0][0].abs().max() > 1e-6


def test_first_order_is_teslas_formula(problem):
    """With L = |theta_T - theta*|^2: dL/dx_t = -2 eta d/dx_t <theta_T - theta*, g_t(x_t)> with
    theta_t and theta_T held, and dL/deta = -2 <theta_T - theta*, sum_t g_t>."""
    network, weights, x, y, _, _ = problem
    loss = classification_loss(network)
    goal = {k: w + 0.1 for k, w in weights.items()}
    size = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    end = unroll(sgd(loss), weights, list(zip(x, y, strict=True)), [size] * 4, graph="first_order")
    outer = sum((end[k] - goal[k]).square().sum() for k in goal)
    ours_x, ours_size = torch.autograd.grad(outer, [x, size])

    at, states = {k: w.clone() for k, w in weights.items()}, []
    for t in range(4):
        states.append(at)
        leaves = {k: w.detach().requires_grad_() for k, w in at.items()}
        g = torch.autograd.grad(loss(leaves, (x[t].detach(), y[t])), list(leaves.values()))
        at = {k: w - 0.3 * each for (k, w), each in zip(at.items(), g, strict=True)}
    slope = 0.0
    for t in range(4):
        leaves = {k: w.detach().requires_grad_() for k, w in states[t].items()}
        inner = loss(leaves, (x[t], y[t]))
        g = torch.autograd.grad(inner, list(leaves.values()), create_graph=True)
        along = sum(((at[k] - goal[k]) * each).sum() for k, each in zip(leaves, g, strict=True))
        slope = slope - 2 * along.detach()
        expected = torch.autograd.grad(-2 * 0.3 * along, x)[0][t]
        torch.testing.assert_close(ours_x[t], expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(ours_size, slope, rtol=1e-10, atol=1e-14)


@pytest.fixture
def convolutions(monkeypatch):
    """A small ConvNet, whose convolutions all count as costly, and an outer gradient by graph."""
    monkeypatch.setattr(recall, "_FEW_PRODUCTS", 1)
    network = ConvNet(3, (2, 8, 8), 2, 4, "instance", "avg", "relu").double()
    weights = {k: v.detach() for k, v in network.named_parameters()}
    x = torch.randn(6, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    size = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    batch = (x, torch.arange(6) % 3)

    def gradient(graph, between=lambda node: None):
        end = unroll(
            sgd(classification_loss(network)), weights, [batch] * 3, [size] * 3, graph=graph
        )
        between(next(iter(end.values())).grad_fn)
        return torch.autograd.grad(sum(w.square().sum() for w in end.values()), [x, size])

    return gradient


def test_kept_convolutions_are_taken_and_give_the_same_gradient(convolutions):
    expected = convolutions("autograd")
    torch.testing.assert_close(convolutions("selective"), expected, rtol=1e-10, atol=1e-14)

    def count(node):
        # forwards and backwards of two convolutions, in each of three steps
        assert [len(kept) for kept in node.kept] == [4, 4, 4]

    def spoil(node):
        first = node.kept[1][0]
        node.kept[1][0] = first._replace(result=first.result * 2)

    convolutions("selective", count)
    spoiled = convolutions("selective", spoil)  # so they are what the gradient is made of
    assert not torch.allclose(spoiled[0], expected[0], rtol=1e-3)


def test_a_kept_result_that_was_written_into_is_computed_again(convolutions):
    def write(node):
        node.kept[1][0].result.mul_(2)

    found = convolutions("selective", write)
    torch.testing.assert_close(found, convolutions("autograd"), rtol=1e-10, atol=1e-14)


def test_cheap_convolutions_are_not_kept(convolutions, monkeypatch):
    monkeypatch.setattr(recall, "_FEW_PRODUCTS", 2 * 9 + 1)  # the first layer has two channels

    def count(node):
        assert [len(kept) for kept in node.kept] == [3, 3, 3]

    convolutions("selective", count)
