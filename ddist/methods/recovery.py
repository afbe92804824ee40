"""What a method does when its outer loss is no number: it goes on from where it was one."""

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor

from ddist.errors import DdistError

log = logging.getLogger(__name__)

EVERY = 20
"""Outer steps between two points that a method can go back to."""
FACTOR = 0.3
"""Of the learning rates, each time."""
AT_MOST = 5
"""Times that rates are lowered: they end at a four-hundredth."""


@dataclass(frozen=True)
class Point:
    """What a method had learned before the outer step ``step``."""

    step: int
    learned: Mapping[str, Tensor]
    moments: Any  # of the outer optimizer
    state: Mapping[str, Any]  # students and pools, as a checkpoint has them

    @classmethod
    def of(cls, method: LightningModule) -> "Point":
        """Copy the state of ``method``."""
        state: dict[str, Any] = {}
        method.on_save_checkpoint(state)
        learned = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        moments = copy.deepcopy(method.trainer.optimizers[0].state_dict()["state"])
        return cls(method.global_step, learned, moments, copy.deepcopy(state))

    def restore(self, method: LightningModule) -> None:
        """Give ``method`` this state; the rates of its optimizer stay as they are."""
        method.load_state_dict(self.learned)
        optimizer = method.trainer.optimizers[0]
        optimizer.load_state_dict({**optimizer.state_dict(), "state": copy.deepcopy(self.moments)})
        method.on_load_checkpoint(copy.deepcopy(dict(self.state)))


class Recovery:
    """Goes back to a point at which the loss was finite, with lower rates, where it is not.

    ``steps`` are those at which that happened.
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._good: Point | None = None
        self._newest: Point | None = None  # whose loss is not known yet

    def mark(self, method: LightningModule) -> None:
        """Note the state before an outer step, every ``EVERY`` steps."""
        step = method.global_step
        if self._newest is None or step - self._newest.step >= EVERY:
            self._newest = Point.of(method)

    def finite(
        self,
        method: LightningModule,
        loss: Tensor,
        step: int,
        rates: Mapping[str, float],
        step_sizes: Tensor | None,
    ) -> bool:
        """Tell whether the outer ``loss`` of ``step`` is finite, on all ranks. Where it is not,
        take ``method`` back and lower its rates.

        Raises:
            DdistError: there is no earlier point, or rates were lowered ``AT_MOST`` times.
        """
        value = float(loss)
        decide = method.trainer.strategy.reduce_boolean_decision
        if decide(math.isfinite(value), all=True):
            if self._newest is not None and self._newest.step <= step:
                self._good = self._newest
            return True
        if self._good is None or len(self.steps) == AT_MOST:
            raise diverged(value, step, rates, step_sizes, len(self.steps))
        self.steps.append(step)
        self._newest = self._good
        self._good.restore(method)
        lower(method, FACTOR)
        log.warning(
            "The outer loss became %s at step %d: on from the images of step %d, with %g times the "
            "learning rates.",
            value,
            step,
            self._good.step,
            FACTOR,
        )
        return False


def lower(method: LightningModule, factor: float) -> None:
    """Multiply the rates of the outer optimizer, now and of the rest of its schedule."""
    for group in method.trainer.optimizers[0].param_groups:
        for name in ("lr", "initial_lr"):
            if name in group:
                group[name] *= factor
    for config in method.trainer.lr_scheduler_configs:
        scheduler: Any = config.scheduler
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]


def repair(checkpoint: dict[str, Any], method: LightningModule) -> None:
    """Replace what ``checkpoint`` has of a method that was taken back meanwhile."""
    trainer = method.trainer
    checkpoint["state_dict"] = method.state_dict()
    checkpoint["optimizer_states"] = [o.state_dict() for o in trainer.optimizers]
    checkpoint["lr_schedulers"] = [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs]


def diverged(
    loss: float,
    step: int,
    learning_rates: Mapping[str, float],
    step_sizes: Tensor | None,
    lowered: int,
) -> DdistError:
    """Return the error of an outer ``loss`` that is NaN or infinite, with what helps.

    ``learning_rates`` are the outer ones by parameter group, which were ``lowered`` so many times;
    ``step_sizes`` are the student's (learned or fixed), None where the method takes no inner steps.
    """
    rates = ", ".join(f"{name} {rate:g}" for name, rate in learning_rates.items())
    inner = "" if step_sizes is None else f", student step sizes {_span(step_sizes)}"
    again = f" although rates were lowered {lowered} times" if lowered else ""
    remedy = "a smaller outer learning rate"
    if step_sizes is not None:
        remedy += " or smaller initial step sizes"
    return DdistError(
        f"The outer loss became {loss} at step {step}{again} (learning rates: {rates}{inner}): try "
        f"{remedy}, trainer.gradient_clip_val=1 or trainer.precision=32-true."
    )


def _span(values: Tensor) -> str:
    """Return ``0.02`` or ``0.01 to 0.04``: the range of the values."""
    low, high = values.min().item(), values.max().item()
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
