"""The losses of networks in training: of stacked ones together, or of one."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ddist.inner.compiled import compiled as compile_function
from ddist.inner.minibatches import Minibatch
from ddist.inner.recipe import Criterion
from ddist.inner.stacking import Precision, autocast, forward_members
from ddist.networks.base import Weights

Loss = Callable[[nn.Module, Weights, Weights, Minibatch, Precision, Criterion, float], Tensor]


def stacked_loss(
    network: nn.Module,
    weights: Weights,
    buffers: Weights,
    batch: Minibatch,
    precision: Precision,
    criterion: Criterion,
    temperature: float,
) -> Tensor:
    """Return the sum of the networks' losses, whose gradient holds each network's own."""
    with autocast(precision, batch.x.device.type):
        logits = forward_members(network, weights | buffers, batch.x, 0 if batch.own else None)
    return _losses(logits, batch, criterion, temperature).mean(1).sum()


@cache
def compiled_loss() -> Loss:
    """Return the compiled loss that the process shares, as in :mod:`ddist.inner.predict`."""
    return compile_function(single_loss, worthwhile=True)


def single_loss(
    network: nn.Module,
    weights: Weights,
    buffers: Weights,
    batch: Minibatch,
    precision: Precision,
    criterion: Criterion,
    temperature: float,
) -> Tensor:
    """Return the loss of a stack of one, without vmap."""
    # squeeze and not [0]: its backward is a view, where that of [0] copies all weights.
    one = {name: tensor.squeeze(0) for name, tensor in (weights | buffers).items()}
    x = batch.x[0] if batch.own else batch.x
    with autocast(precision, x.device.type):
        logits = functional_call(network, one, (x,)).unsqueeze(0)
    return _losses(logits, batch, criterion, temperature).mean()


def _losses(logits: Tensor, batch: Minibatch, criterion: Criterion, temperature: float) -> Tensor:
    """Return the losses [K, B] of ``logits`` [K, B, C] on the batch's labels, mixed ones added."""
    y = batch.y if batch.own else batch.y.expand(len(logits), *batch.y.shape)
    losses = _weighted(criterion, temperature, logits, y, batch.factors)
    if batch.others is None:
        return losses
    return losses + _weighted(criterion, temperature, logits, *batch.others)


def _weighted(
    criterion: Criterion, temperature: float, logits: Tensor, y: Tensor, factors: Tensor | None
) -> Tensor:
    """Return ``factors`` times losses [K, B] of ``logits`` [K, B, C], y [K, B] or [K, B, C]."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if criterion == "mse":
        losses = half_squared_error(logits, y)
    else:
        cooled = logits.flatten(0, 1) / temperature
        losses = temperature**2 * F.cross_entropy(cooled, y.flatten(0, 1), reduction="none")
        losses = losses.reshape(logits.shape[:2])
    return losses if factors is None else losses * factors


def half_squared_error(predicted: Tensor, y: Tensor) -> Tensor:
    """Return 1/2 |y - predicted|^2 over the classes, which come last: [...] of [..., C]."""
    return 0.5 * (y - predicted).square().sum(-1)
