"""What trained networks say: logits and accuracy of K networks at once, without a graph."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddist.inner.stacking import (
    Stacked,
    choose_stacked,
    forward_members,
    groups,
    member,
    mode,
    num_members,
)
from ddist.networks.base import Weights

_CHUNK = 512  # images in one call: more gains nothing on CPUs, whose caches it overflows


@torch.no_grad()
def predict(
    network: nn.Module, weights: Weights, x: Tensor, *, stacked: Stacked = "auto"
) -> Tensor:
    """Logits [K, N, C] in evaluation mode: stacked ``weights`` [K, ...], common images ``x``
    [N, C, H, W] in training space. Memory beyond the result does not grow with K or N."""
    # no_grad and not inference_mode: callers may use the logits as targets of a later loss.
    with mode(network, training=False):
        chunks = torch.split(x, _CHUNK)
        if choose_stacked(network, stacked, len(chunks[0]), x.device.type):
            rows = [_stacked_logits(network, weights, chunk) for chunk in chunks]
        else:
            rows = [_separate_logits(network, weights, chunk) for chunk in chunks]
    return torch.cat(rows, dim=1)


def accuracy(
    network: nn.Module,
    weights: Weights,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    stacked: Stacked = "auto",
) -> Tensor:
    """Fraction [K] (float64, on the CPU) of the images that each network classifies correctly.

    ``batches`` yields normalised images [N, C, H, W] and int64 labels [N], for example
    ``data.batches(data.test, 1000)``.
    """
    correct, total = torch.zeros(num_members(weights), dtype=torch.int64), 0
    for x, y in batches:
        predicted = predict(network, weights, x, stacked=stacked).argmax(-1)
        correct += (predicted == y).sum(-1).cpu()
        total += len(y)
    return correct.double() / total


def _stacked_logits(network: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    parts = [
        forward_members(network, {n: w[group] for n, w in weights.items()}, x, None)
        for group in groups(weights, len(x))
    ]
    return torch.cat(parts)


def _separate_logits(network: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    return torch.stack(
        [functional_call(network, member(weights, k), (x,)) for k in range(num_members(weights))]
    )
