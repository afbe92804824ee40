"""Ordinary training of K networks at once: evaluation, pre-trained pools, experts, teachers.

Each network follows its own random order, so its weights are the same (to rounding) whether it is
trained stacked with others, one after the other, or alone.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import ceil
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ddist.augment.mix import Mix
from ddist.data.ondisk import Images
from ddist.errors import DdistError
from ddist.inner.compiled import compiled as compile_function
from ddist.inner.minibatches import Augment, Label, Minibatch, Minibatches
from ddist.inner.sharpness import flat_gradient
from ddist.inner.stacking import (
    Precision,
    Stacked,
    autocast,
    choose_stacked,
    concatenate,
    forward_members,
    groups,
    keeps_statistics,
    mode,
    num_members,
    singles,
)
from ddist.networks.base import Weights

Optimizer = Literal["sgd", "adam", "adamw"]
Criterion = Literal["cross_entropy", "mse"]
Scale = Callable[[int, int], float]
"""A step's share of the step size, from the steps before it and the number of all."""
Loss = Callable[[nn.Module, Weights, Weights, Minibatch, Precision, Criterion, float], Tensor]


def fit(
    network: nn.Module,
    weights: Weights,
    x: Images,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    lr: float,
    momentum: float,
    weight_decay: float,
    generators: Sequence[torch.Generator],
    lr_drops: Sequence[int] = (),
    lr_factor: float = 0.1,
    reset_momentum: bool = False,
    lr_scale: Scale | None = None,
    criterion: Criterion = "cross_entropy",
    temperature: float = 1.0,
    rho: float = 0.0,
    alpha: float = 0.0,
    sample_weights: Tensor | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    augment: Augment | None = None,
    mix: Mix | None = None,
    label: Label | None = None,
    stacked: Stacked = "auto",
    precision: Precision = "32-true",
    compiled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Weights:
    """Train stacked ``weights`` [K, ...] on one dataset and return them, stacked.

    ``weights`` are not changed. The result holds running statistics too where the network has
    batch normalisation.

    Args:
        x: images [N, C, H, W]: float in training space, or whatever ``normalize`` takes; on disk,
            they are read batch by batch.
        y: labels, int64 [N] or soft float [N, C]; with "mse" any numbers, float [N, C].
        batch_size: images per step; the last batch of an epoch may be smaller.
        momentum: of SGD; beta_1 of Adam and AdamW.
        weight_decay: added to the gradient, but AdamW's shrinks the weights themselves.
        generators: one per network, for its order of the images, ``augment`` and ``mix``.
        lr_drops: after each of these epochs (counted from 0) the step size is multiplied by
            ``lr_factor``.
        reset_momentum: a drop also starts a new optimizer, as DC's evaluation does.
        lr_scale: (step, steps) -> what the step size of that step, counted from 0, is multiplied
            by; None for 1.
        criterion: the loss of an image: "cross_entropy", or "mse" for half its squared errors,
            summed over classes.
        temperature: T of "cross_entropy": logits are divided by T and the loss is multiplied by
            T^2 (Hinton et al. 2015, section 2.1). With labels that a teacher gives at the same T,
            its gradient is that of T^2 KL(teacher || network): they differ by a constant.
        rho, alpha: of sharpness-aware training, see :func:`ddist.inner.sharpness.flat_gradient`;
            ``rho`` 0 is none. Costs two gradients per step.
        sample_weights: [N], factors of the images' losses (mean 1 keeps the scale).
        normalize: applied to each batch, on the device.
        augment: applied after it, to each network's batch with its generator.
        mix: applied last, likewise; mixes images and losses, such as
            ``functools.partial(ddist.augment.mix.cutmix, probability=0.5, beta=1.0)``.
        label: gives the labels of each batch as it is trained on, augmented and mixed, in the
            place of ``y``: soft float [B, C] of images [B, C, H, W].
        stacked: train all together, one after the other, or the faster ("auto").
        precision: of the forward pass and its gradient; the weights stay in theirs.
        compiled: with torch.compile (see :func:`ddist.inner.compiled.pays`), if it works here, and
            only one after the other.
        progress: called with the epochs done and their total over all groups of networks.
    """
    if len(generators) != num_members(weights):
        raise DdistError(
            f"fit needs one generator per network: {num_members(weights)} networks, "
            f"{len(generators)} generators."
        )
    if rho != 0 and keeps_statistics(network):
        raise DdistError(
            "Sharpness-aware training would count the weights that it only looks at into the "
            "running statistics of batch normalisation: choose network.norm=instance, or rho=0."
        )
    if criterion not in get_args(Criterion):
        raise DdistError(f"The loss of a training is cross_entropy or mse, not {criterion!r}.")
    if not temperature > 0:
        raise DdistError(f"The temperature of labels is above 0, such as 20, not {temperature}.")
    if batch_size < 1:
        raise DdistError(f"The batch_size of a training is at least 1, not {batch_size}.")
    batch_size = min(batch_size, len(x))
    steps = epochs * ceil(len(x) / batch_size)
    together = choose_stacked(network, stacked, batch_size, x.device.type, precision)
    loss: Loss = _stacked_loss if together else _single_loss
    if compiled and not together:
        loss = _compiled_loss()
    data = Minibatches(x, y, sample_weights, batch_size, normalize, augment, mix, label)
    parts = list(groups(weights, batch_size)) if together else singles(weights)
    trained = []
    with mode(network, training=True), torch.enable_grad():
        for index, part in enumerate(parts):
            parameters, buffers = trainable(network, {n: w[part] for n, w in weights.items()})
            descent = _Descent(parameters, optimizer, lr, momentum, weight_decay)
            done = 0
            for epoch in range(epochs):
                for batch in data.epoch(generators[part]):
                    if lr_scale is not None:
                        descent.scale(lr_scale(done, steps))
                    gradient = partial(
                        _gradient, loss, network, buffers, batch, precision, criterion, temperature
                    )
                    descent.step(flat_gradient(gradient, parameters, rho, alpha))
                    done += 1
                if epoch in lr_drops:
                    descent.drop(lr_factor, reset_momentum)
                if progress is not None:
                    progress(index * epochs + epoch + 1, len(parts) * epochs)
            trained.append({n: w.detach() for n, w in (parameters | buffers).items()})
    return concatenate(trained)


class _Descent:
    """An optimizer of stacked weights, whose step size drops."""

    def __init__(
        self, weights: Weights, kind: Optimizer, lr: float, momentum: float, weight_decay: float
    ) -> None:
        if kind not in get_args(Optimizer):
            raise DdistError(f"The optimizer of a training is sgd, adam or adamw, not {kind!r}.")
        self._weights = weights
        self._kind, self._lr, self._momentum = kind, lr, momentum
        self._weight_decay = weight_decay
        self._optimizer = self._make()

    def _make(self) -> torch.optim.Optimizer:
        # All act element by element: stacked weights move exactly as separate ones.
        weights = list(self._weights.values())
        if self._kind == "sgd":
            return torch.optim.SGD(
                weights, self._lr, self._momentum, weight_decay=self._weight_decay
            )
        make = torch.optim.Adam if self._kind == "adam" else torch.optim.AdamW
        betas = (self._momentum, 0.999)
        return make(weights, self._lr, betas, weight_decay=self._weight_decay)

    def step(self, gradients: Weights) -> None:
        for name, tensor in self._weights.items():
            tensor.grad = gradients[name]
        self._optimizer.step()

    def drop(self, factor: float, reset: bool) -> None:
        self._lr *= factor
        if reset:
            self._optimizer = self._make()
        self.scale(1.0)

    def scale(self, factor: float) -> None:
        """The next steps take ``factor`` of the step size, which stays what it is."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * factor


def trainable(network: nn.Module, weights: Weights) -> tuple[Weights, Weights]:
    """Copies of the stacked weights that can be trained, and of the network's buffers."""
    buffers = {
        name: weights[name].clone()
        if name in weights
        else torch.stack([buffer] * num_members(weights))
        for name, buffer in network.named_buffers()
    }
    parameters = {
        name: tensor.detach().clone().requires_grad_()
        for name, tensor in weights.items()
        if name not in buffers
    }
    return parameters, buffers


def _gradient(
    loss: Loss,
    network: nn.Module,
    buffers: Weights,
    batch: Minibatch,
    precision: Precision,
    criterion: Criterion,
    temperature: float,
    weights: Weights,
) -> Weights:
    """The gradients of the stacked ``weights``."""
    total = loss(network, weights, buffers, batch, precision, criterion, temperature)
    return dict(zip(weights, torch.autograd.grad(total, list(weights.values())), strict=True))


def _stacked_loss(
    network: nn.Module,
    weights: Weights,
    buffers: Weights,
    batch: Minibatch,
    precision: Precision,
    criterion: Criterion,
    temperature: float,
) -> Tensor:
    """Sum of the networks' losses: its gradient holds each network's own."""
    with autocast(precision, batch.x.device.type):
        logits = forward_members(network, weights | buffers, batch.x, 0 if batch.own else None)
    num = len(logits)
    y = batch.y if batch.own else batch.y.expand(num, *batch.y.shape)
    losses = _weighted(criterion, temperature, logits, y, batch.factors)
    if batch.others is not None:
        losses = losses + _weighted(criterion, temperature, logits, *batch.others)
    return losses.mean(1).sum()


@cache
def _compiled_loss() -> Loss:
    """One for the process, as in :mod:`ddist.inner.predict`."""
    return compile_function(_single_loss, worthwhile=True)


def _single_loss(
    network: nn.Module,
    weights: Weights,
    buffers: Weights,
    batch: Minibatch,
    precision: Precision,
    criterion: Criterion,
    temperature: float,
) -> Tensor:
    """The loss of a stack of one, without vmap."""
    # squeeze and not [0]: its backward is a view, where that of [0] copies all weights.
    one = {name: tensor.squeeze(0) for name, tensor in (weights | buffers).items()}
    x = batch.x[0] if batch.own else batch.x
    with autocast(precision, x.device.type):
        logits = functional_call(network, one, (x,)).unsqueeze(0)
    y, factors = batch.y, batch.factors
    y = y if batch.own else y.unsqueeze(0)
    losses = _weighted(criterion, temperature, logits, y, factors)
    if batch.others is not None:
        losses = losses + _weighted(criterion, temperature, logits, *batch.others)
    return losses.mean()


def _weighted(
    criterion: Criterion, temperature: float, logits: Tensor, y: Tensor, factors: Tensor | None
) -> Tensor:
    """Losses [K, B] of ``logits`` [K, B, C] for labels [K, B] or [K, B, C], times ``factors``."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if criterion == "mse":
        losses = half_squared_error(logits, y)
    else:
        cooled = logits.flatten(0, 1) / temperature
        losses = temperature**2 * F.cross_entropy(cooled, y.flatten(0, 1), reduction="none")
        losses = losses.reshape(logits.shape[:2])
    return losses if factors is None else losses * factors


def half_squared_error(predicted: Tensor, y: Tensor) -> Tensor:
    """1/2 |y - predicted|^2 over the classes, which come last: [...] of [..., C]."""
    return 0.5 * (y - predicted).square().sum(-1)
