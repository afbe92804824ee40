"""Dataset Distillation (Wang, Zhu, Torralba & Efros 2018, arXiv 1811.10959)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from ddist.inner.parts import footprint, forward_in_parts, limit, num_real_at_once
from ddist.inner.stacking import keeps_statistics
from ddist.inner.steps import classification_loss, sgd, stacked
from ddist.inner.unroll import unroll
from ddist.methods.base import Batch
from ddist.methods.unrolled import Unrolled
from ddist.networks import Weights
from ddist.objectives import Objective
from ddist.settings.ranges import Positive, PositiveInt
from ddist.synthetic.steps import StepSizes

OuterLoss = Callable[[Tensor, Tensor], Tensor]
"""On real data, (logits [B, K], y [B]) -> scalar (see :mod:`ddist.objectives`)."""


class DD(Unrolled):
    """Images and step sizes such that a few steps of gradient descent train a network.

        theta_{t+1} = theta_t - eta_t grad l(x_t, theta_t),     t = 0 .. E S - 1
        min over x, eta of  E_{theta_0 ~ p}  l(x_real, theta_{E S})              (paper, eq. 2-4)

    S student steps, each with its own images of every class, gone through E times; one learned
    step size per step and epoch.

    Args:
        student_steps, student_epochs: S and E.
        step_size: where every eta starts.
        num_networks: draws of theta_0 per outer step, whose losses are averaged.
        window: differentiate only this many last steps; None for all.
        objective: the loss on real data, (logits [B, K], y [B]) -> scalar. An
            :class:`~ddist.objectives.Objective` also gives the images, which stay those of their
            classes, the labels that it wants.
    """

    supports_fp16 = False

    def __init__(
        self,
        *,
        student_steps: PositiveInt,
        student_epochs: PositiveInt,
        step_size: Positive,
        num_networks: PositiveInt,
        window: PositiveInt | None,
        objective: OuterLoss,
        **common: Any,
    ) -> None:
        super().__init__(
            num_steps=student_steps,
            step_sizes=StepSizes(student_epochs, student_steps, step_size),
            **common,
        )
        assert self.step_index is not None
        self.sizes = (torch.bincount(self.step_index) * self.synthetic.examples_each).tolist()
        self.num_networks = num_networks
        self.window = window
        self.objective = objective
        if isinstance(objective, Objective):
            self.synthetic.relabel(objective.targets)

    def outer_loss(self, batch: Batch) -> Tensor:
        x_real, y_real = batch
        weights = self.train_student(self.draw_networks(self.num_networks))
        size = num_real_at_once(self.network, x_real, self.num_networks)
        logits = forward_in_parts(partial(self.logits, weights), x_real, size)
        correct = (logits.detach().argmax(-1) == y_real).float().mean()
        self.log("distill/accuracy", correct, prog_bar=True)
        return vmap(self.objective, in_dims=(0, None))(logits, y_real).mean()

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits [num_networks, B, K] of images [B, C, H, W] under stacked weights."""
        if self.num_networks == 1:
            return functional_call(self.network, _only(weights), (x,))[None]
        return vmap(lambda w: functional_call(self.network, w, (x,)))(weights)

    def unrolled(self) -> tuple[int, int]:
        steps = min(self.learned_step_sizes().numel(), self.window or 2**31)
        return max(self.sizes) * self.num_networks, steps

    def num_bytes(self) -> int:
        one, most = footprint(self.network, self.data.image_shape), limit(self.data.device)
        real = one.gradient((self.data.batch_size or 0) * self.num_networks)
        return max(super().num_bytes(), real if keeps_statistics(self.network) else min(real, most))

    def train_student(self, weights: Weights) -> Weights:
        """Train theta_0, stacked [K, ...], to theta_{E S}, stacked and differentiable."""
        images, labels = self.synthetic()
        steps = list(zip(images.split(self.sizes), labels.split(self.sizes), strict=True))
        step_sizes = self.learned_step_sizes()
        loss, single = classification_loss(self.network), self.num_networks == 1
        trained = unroll(
            sgd(loss if single else stacked(loss)),
            _only(weights) if single else weights,
            steps * len(step_sizes),
            step_sizes.flatten().unbind(),
            graph=self.graph,
            window=self.window,
        )
        return {name: w[None] for name, w in trained.items()} if single else trained


def _only(weights: Weights) -> Weights:
    """Unstack the only network, as a vectorised pass over a single one just costs time."""
    return {name: w[0] for name, w in weights.items()}
