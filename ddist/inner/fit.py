"""Ordinary training of K networks at once: evaluation, pre-trained pools, experts, teachers.

Each network follows its own random order, so its weights are the same (to rounding) whether it is
trained stacked with others, one after the other, or alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

import torch
from torch import Tensor, nn

from ddist.augment.mix import Mix
from ddist.data.ondisk import Images
from ddist.errors import DdistError
from ddist.inner.losses import Loss, compiled_loss, single_loss, stacked_loss
from ddist.inner.minibatches import Augment, Label, Minibatch, Minibatches
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.sharpness import flat_gradient
from ddist.inner.stacking import (
    choose_stacked,
    concatenate,
    groups,
    keeps_statistics,
    mode,
    num_members,
    singles,
)
from ddist.networks.base import Weights


def fit(
    network: nn.Module,
    weights: Weights,
    x: Images,
    y: Tensor,
    recipe: TrainingRecipe,
    *,
    generators: Sequence[torch.Generator],
    sample_weights: Tensor | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    augment: Augment | None = None,
    mix: Mix | None = None,
    label: Label | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Weights:
    """Train stacked ``weights`` [K, ...] on one dataset and return them, stacked.

    ``weights`` are not changed. The result holds running statistics too if the network has batch
    normalisation.

    Args:
        x: images [N, C, H, W]: float in training space, or whatever ``normalize`` takes; on disk,
            they are read batch by batch.
        y: labels, int64 [N] or soft float [N, C]; with "mse" any numbers, float [N, C].
        generators: one per network, for its order of the images, ``augment`` and ``mix``.
        sample_weights: [N], factors of the images' losses (mean 1 keeps the scale).
        normalize: applied to each batch, on the device.
        augment: applied after it, to each network's batch with its generator.
        mix: applied last, likewise; mixes images and losses, such as
            ``functools.partial(ddist.augment.mix.cutmix, probability=0.5, beta=1.0)``.
        label: gives the labels of each batch as it is trained on, augmented and mixed, in the
            place of ``y``: soft float [B, C] of images [B, C, H, W].
        progress: called with the epochs done and their total over all groups of networks.
    """
    _check(network, weights, recipe, len(generators))
    batch_size = min(recipe.batch_size, len(x))
    together = choose_stacked(network, recipe.stacked, batch_size, x.device.type, recipe.precision)
    loss: Loss = stacked_loss if together else single_loss
    if recipe.compiled and not together:
        loss = compiled_loss()
    data = Minibatches(x, y, sample_weights, batch_size, normalize, augment, mix, label)
    groups_of_networks = list(groups(weights, batch_size)) if together else singles(weights)

    def epoch_done(index: int, epochs: int) -> None:
        if progress is not None:
            progress(index * recipe.epochs + epochs, len(groups_of_networks) * recipe.epochs)

    with mode(network, training=True), torch.enable_grad():
        trained = [
            _trained(
                loss,
                network,
                {name: w[group] for name, w in weights.items()},
                recipe,
                data,
                generators[group],
                partial(epoch_done, index),
            )
            for index, group in enumerate(groups_of_networks)
        ]
    return concatenate(trained)


def _check(
    network: nn.Module, weights: Weights, recipe: TrainingRecipe, num_generators: int
) -> None:
    """Raise a DdistError if the arguments of :func:`fit` do not fit together."""
    if num_generators != num_members(weights):
        raise DdistError(
            f"fit needs one generator per network: {num_members(weights)} networks, "
            f"{num_generators} generators."
        )
    if recipe.rho != 0 and keeps_statistics(network):
        raise DdistError(
            "Sharpness-aware training would count the weights that it only looks at into the "
            "running statistics of batch normalisation: choose network.norm=instance, or rho=0."
        )


def _trained(
    loss: Loss,
    network: nn.Module,
    weights: Weights,
    recipe: TrainingRecipe,
    data: Minibatches,
    generators: Sequence[torch.Generator],
    epoch_done: Callable[[int], None],
) -> Weights:
    """Train ``weights`` that are computed together and return them; ``epoch_done`` is called with
    the number of epochs done."""
    parameters, buffers = trainable(network, weights)
    descent = _Descent(parameters, recipe)
    steps, done = recipe.epochs * ceil(len(data.x) / data.batch_size), 0
    for epoch in range(recipe.epochs):
        for batch in data.epoch(generators):
            if recipe.lr_scale is not None:
                descent.scale(recipe.lr_scale(done, steps))
            gradient = partial(_gradient, loss, network, buffers, batch, recipe)
            descent.step(flat_gradient(gradient, parameters, recipe.rho, recipe.alpha))
            done += 1
        if epoch in recipe.lr_drops:
            descent.drop(recipe.lr_factor, recipe.reset_momentum)
        epoch_done(epoch + 1)
    return {name: w.detach() for name, w in (parameters | buffers).items()}


class _Descent:
    """An optimizer of stacked weights, whose step size drops."""

    def __init__(self, weights: Weights, recipe: TrainingRecipe) -> None:
        self._weights, self._recipe, self._lr = weights, recipe, recipe.lr
        self._optimizer = self._make()

    def _make(self) -> torch.optim.Optimizer:
        # Every optimizer acts element by element: stacked weights move exactly as separate ones.
        weights, recipe = list(self._weights.values()), self._recipe
        decay = recipe.weight_decay
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(weights, self._lr, recipe.momentum, weight_decay=decay)
        make = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
        return make(weights, self._lr, (recipe.momentum, 0.999), weight_decay=decay)

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
        """Multiply the step size of the next steps by ``factor``; the base step size stays."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * factor


def trainable(network: nn.Module, weights: Weights) -> tuple[Weights, Weights]:
    """Return trainable copies of the stacked weights, and copies of the network's buffers."""
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
    recipe: TrainingRecipe,
    weights: Weights,
) -> Weights:
    """Return the gradients of the stacked ``weights``."""
    options = recipe.precision, recipe.criterion, recipe.temperature
    total = loss(network, weights, buffers, batch, *options)
    return dict(zip(weights, torch.autograd.grad(total, list(weights.values())), strict=True))
