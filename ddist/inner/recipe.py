"""What an ordinary training is: the values that :func:`ddist.inner.fit.fit` takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ddist.inner.stacking import Stacked
from ddist.settings.ranges import (
    Momentum,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Precision,
)

Optimizer = Literal["sgd", "adam", "adamw"]
Criterion = Literal["cross_entropy", "mse"]
Scale = Callable[[int, int], float]
"""A step's share of the step size, from the steps before it and the number of all."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How networks are trained, whatever they are trained on.

    Args:
        epochs: passes over the images.
        batch_size: images per step; the last batch of an epoch may be smaller.
        momentum: of SGD; beta_1 of Adam and AdamW.
        weight_decay: added to the gradient, but AdamW's shrinks the weights themselves.
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
        precision: of the forward pass and its gradient; the weights stay in theirs.
        stacked: train all together, one after the other, or the faster ("auto").
        compiled: with torch.compile (see :func:`ddist.inner.compiled.pays`), if it works here, and
            only one after the other.
    """

    epochs: NonNegativeInt
    batch_size: PositiveInt
    optimizer: Optimizer
    lr: NonNegative
    momentum: Momentum
    weight_decay: NonNegative
    lr_drops: Sequence[NonNegativeInt] = ()
    lr_factor: NonNegative = 0.1
    reset_momentum: bool = False
    lr_scale: Scale | None = None
    criterion: Criterion = "cross_entropy"
    temperature: Positive = 1.0
    rho: NonNegative = 0.0
    alpha: NonNegative = 0.0
    precision: Precision = "32-true"
    stacked: Stacked = "auto"
    compiled: bool = False

    def settings(self, *names: str) -> dict[str, Any]:
        """Return the values of ``names``, as a signature covers them."""
        return {name: getattr(self, name) for name in names}
