"""The memory of an exact gradient through T steps, counted tensor by tensor."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ddist.init import Random
from ddist.inner.steps import (
    adam,
    classification_loss,
    only_weights,
    sgd,
    with_moments,
    with_momentum,
)
from ddist.inner.unroll import unroll
from ddist.networks import ConvNet

pytestmark = pytest.mark.slow

SHAPE = (1, 16, 16)
Peak = Callable[[int, str, str], int]


@pytest.fixture(scope="module")
def peak(living_bytes: Any) -> Peak:
    """Bytes that one outer gradient through that many steps of 32 images needs at its peak."""

    @functools.cache
    def measure(num_steps: int, graph: str, optimizer: str) -> int:
        network, start, batch, sizes = problem(num_steps)
        loss = classification_loss(network)
        with living_bytes() as memory:
            step, state = {
                "sgd": lambda: (sgd(loss), start),
                "momentum": lambda: (sgd(loss, 0.9), with_momentum(start)),
                "adam": lambda: (adam(loss), with_moments(start)),
            }[optimizer]()
            end = unroll(step, state, [batch] * num_steps, sizes, graph=graph)
            loss(only_weights(end), (batch[0].detach()[:4], batch[1][:4])).backward()
        assert batch[0].grad is not None and sizes.grad is not None
        return int(memory.peak)

    return measure


def problem(num_steps: int):
    network = ConvNet(3, SHAPE, depth=2, width=8, norm="none", pooling="avg", activation="relu")
    weights = {name: w[0] for name, w in Random("xavier_normal", 0).draw(network, 1).items()}
    x = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sizes = torch.full((num_steps,), 0.01, requires_grad=True)
    return network, weights, (x, torch.arange(32) % 3), sizes


def bytes_of_weights() -> int:
    return sum(w.nbytes for w in problem(1)[1].values())


@pytest.mark.parametrize(("optimizer", "kept"), [("sgd", 1), ("momentum", 2), ("adam", 3)])
def test_memory_does_not_grow_with_the_number_of_steps(
    peak: Peak, optimizer: str, kept: int
) -> None:
    """64 steps need at most half as much again as 8, plus the states that are kept."""
    states = 64 * bytes_of_weights() * kept
    allowed = 1.5 * peak(8, "checkpoint", optimizer) + states
    assert peak(64, "checkpoint", optimizer) < allowed
    assert peak(32, "autograd", "sgd") > 3 * allowed  # half the steps: this test can fail


def test_each_step_more_costs_its_state_and_nothing_else(peak: Peak) -> None:
    per_step = (peak(64, "checkpoint", "sgd") - peak(8, "checkpoint", "sgd")) / 56
    assert per_step < 1.3 * bytes_of_weights()


def test_the_count_is_right(living_bytes: Any) -> None:
    """Plain forward and backward of a product, added up by hand."""
    x, w = torch.randn(100, 50), nn.Parameter(torch.randn(50, 20))
    with living_bytes() as memory:
        kept = x @ w
        assert memory.now == memory.peak == 4 * 100 * 20
        del kept
        assert memory.now == 0
        cross_entropy(x @ w, torch.zeros(100, dtype=torch.int64)).backward()
    assert memory.now == 4 * 50 * 20  # the gradient
    assert memory.peak >= 4 * (100 * 20 * 2 + 50 * 20)


def test_a_window_frees_what_comes_before_it(living_bytes: Any) -> None:
    """Truncation with the whole graph kept needs the memory of the window alone."""
    network, start, batch, sizes = problem(32)

    def measure(run: Callable[[], dict[str, torch.Tensor]]) -> int:
        with living_bytes() as memory:
            sum(w.sum() for w in run().values()).backward()
        return memory.peak

    step = sgd(classification_loss(network))
    batches = [batch] * 32
    window = measure(lambda: unroll(step, start, batches, sizes, graph="autograd", window=8))
    short = measure(lambda: unroll(step, start, batches[:8], sizes[:8], graph="autograd"))
    assert window < 1.1 * short
