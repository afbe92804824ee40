"""What trained networks say: logits and accuracy of K networks at once, without a graph."""

from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ddist.inner.compiled import compiled as compile_function
from ddist.inner.parts import at_once, footprint, shape_of
from ddist.inner.stacking import (
    Precision,
    Stacked,
    autocast,
    choose_stacked,
    forward_members,
    groups,
    member,
    mode,
    num_members,
    singles,
)
from ddist.networks.base import Weights

Forward = Callable[[nn.Module, Weights, Tensor, bool, Precision], Tensor]

_CHUNK = 250  # images in one call: more gains nothing on CPUs, whose caches it overflows


@torch.no_grad()
def predict(
    network: nn.Module,
    weights: Weights,
    x: Tensor,
    *,
    stacked: Stacked = "auto",
    precision: Precision = "32-true",
    compiled: bool = False,
) -> Tensor:
    """Return logits [K, N, C] in evaluation mode: stacked ``weights`` [K, ...], common images ``x``
    [N, C, H, W] in training space. Memory beyond the result does not grow with K or N.

    ``compiled``: with torch.compile (see :func:`ddist.inner.compiled.pays`), if it works here.
    """
    # no_grad and not inference_mode: callers may use the logits as targets of a later loss.
    forward = _compiled_forward() if compiled else _forward
    most = min(_CHUNK, at_once(footprint(network, shape_of(x)).forward(1), x.device))
    with mode(network, training=False):
        chunks = list(torch.split(x, most))
        if compiled and len(chunks[-1]) < most:  # one shape to compile: zeros fill the last
            missing = most - len(chunks[-1])
            chunks[-1] = torch.cat([chunks[-1], x.new_zeros(missing, *x.shape[1:])])
        together = choose_stacked(network, stacked, len(chunks[0]), x.device.type, precision)
        members = list(groups(weights, len(chunks[0]))) if together else singles(weights)
        rows = []
        for chunk in chunks:
            logits = [
                forward(
                    network, {n: w[group] for n, w in weights.items()}, chunk, together, precision
                )
                for group in members
            ]
            rows.append(torch.cat(logits))
    return torch.cat(rows, dim=1)[:, : len(x)]


def accuracy(
    network: nn.Module,
    weights: Weights,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    stacked: Stacked = "auto",
    precision: Precision = "32-true",
    compiled: bool = False,
    confusion: Tensor | None = None,
) -> Tensor:
    """Return the fraction [K] (float64, on the CPU) of images that each network classifies right.

    ``batches`` yields normalised images [N, C, H, W] and int64 labels [N], for example
    ``data.batches(data.test, 1000)``; ``confusion`` is as in :func:`count`, the rest as in
    :func:`predict`.
    """
    correct, total = torch.zeros(num_members(weights), dtype=torch.int64), 0
    for x, y in batches:
        logits = predict(
            network, weights, x, stacked=stacked, precision=precision, compiled=compiled
        )
        predicted = logits.argmax(-1)  # [K, N]
        correct += (predicted == y).sum(-1).cpu()
        total += len(y)
        count(confusion, predicted, y)
    return correct.double() / total


def count(confusion: Tensor | None, predicted: Tensor, y: Tensor) -> None:
    """Count in ``confusion`` (int64 [C, C]: true class, predicted class; None counts nothing) the
    classes int64 [K, N] that K networks predict for N images of the classes ``y``."""
    if confusion is not None:
        y = y.expand_as(predicted).flatten()
        confusion += multiclass_confusion_matrix(
            predicted.flatten(), y, len(confusion), validate_args=False
        ).to(confusion)


def _forward(
    network: nn.Module, weights: Weights, x: Tensor, stacked: bool, precision: Precision
) -> Tensor:
    """Return logits [K, N, C] of K networks: of one, unless ``stacked``."""
    with autocast(precision, x.device.type):
        if stacked:
            logits = forward_members(network, weights, x, None)
        else:
            logits = functional_call(network, member(weights, 0), (x,)).unsqueeze(0)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@cache
def _compiled_forward() -> Forward:
    """Return the compiled forward pass that the process shares. The network is an argument: nothing
    keeps networks alive, and evaluations in turn on one network share what was compiled."""
    return compile_function(_forward, worthwhile=True)
