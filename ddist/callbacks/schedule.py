"""Time: how long the schedule takes on this machine, and stopping it after a budget."""

import logging
import time
from typing import Any, TypeVar

from pytorch_lightning import Callback, LightningModule, Trainer

from ddist.formatting import format_duration, parse_duration
from ddist.settings.ranges import NonNegative, PositiveInt

log = logging.getLogger(__name__)

C = TypeVar("C", bound=Callback)

_HOUR = 3600.0

SAID_SHARE = 0.02
"""Share of a budget that may pass before the first step without being mentioned."""


class Budget(Callback):
    """Stops distilling in time for a command of ``limit`` of wall-clock time (None: never).

    ``limit`` is anything that :func:`parse_duration` reads. Its clock runs from ``before`` seconds
    before the callback is made: what has to be there before the first step (data, experts,
    pre-trained networks) counts, and ``reserve`` seconds are left for what comes after the last
    one. A resumed run goes on with what is left: the time already spent lies in the checkpoint.
    """

    def __init__(
        self, limit: str | float | None, before: NonNegative = 0.0, reserve: NonNegative = 0.0
    ) -> None:
        self.limit = None if limit is None else parse_duration(limit)
        self.reserve = reserve
        self._spent_before = self._stepped_before = 0.0
        self._started: float | None = time.monotonic() - before  # None once the steps are over
        self._first_step: float | None = None

    @property
    def spent(self) -> float:
        """Seconds of the budget so far, over all the run's resumptions."""
        now = 0.0 if self._started is None else time.monotonic() - self._started
        return self._spent_before + now

    @property
    def stepped(self) -> float:
        """Seconds of outer steps so far, over all the run's resumptions."""
        now = 0.0 if self._first_step is None else time.monotonic() - self._first_step
        return self._stepped_before + now

    @property
    def left(self) -> float:
        """Seconds that are left for outer steps; infinite without a budget."""
        return float("inf") if self.limit is None else self.limit - self.reserve - self.spent

    @property
    def share(self) -> float:
        """The part of the time for outer steps that has passed, from 0 to 1; 0 without a budget."""
        return min(1.0, self.stepped / max(1e-9, self.stepped + max(0.0, self.left)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first_step = time.monotonic()
        if self._started is None:
            self._started = self._first_step
        prepared = self._first_step - self._started
        if self.limit is not None and prepared > SAID_SHARE * self.limit:
            log.info(
                "%s of the budget of %s went into what the first step needs (data, networks).",
                format_duration(prepared),
                format_duration(self.limit),
            )

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        # The ranks' clocks differ, and a rank that stops alone leaves the others waiting for it.
        if self.limit is None or not step_finished(trainer):
            return
        if trainer.strategy.reduce_boolean_decision(self.left <= 0, all=False):
            trainer.should_stop = True
            if trainer.is_global_zero:
                kept = f", of which {format_duration(self.reserve)} are for the evaluation,"
                log.info(
                    "The budget of %s%s is used up: stopped at step %d of %d.",
                    format_duration(self.limit),
                    kept if self.reserve else "",
                    trainer.global_step,
                    trainer.max_steps,
                )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._spent_before, self._started = self.spent, None
        self._stepped_before, self._first_step = self.stepped, None

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent, "stepped": self.stepped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._spent_before = state_dict["spent"]
        # Earlier checkpoints count nothing but steps.
        self._stepped_before = state_dict.get("stepped", state_dict["spent"])


class TimeEstimate(Callback):
    """Says once, after the first steps, how long the whole schedule takes on this machine.

    The first step is left out (caches, lazy initialisation). The line comes after ``num_steps``
    further steps or ``seconds``, whichever is sooner; it says how many steps a budget has time for
    where that is not all. Where a CPU would need more than an hour and
    no budget is set, it also names the ``preset`` or the budget that help.
    """

    def __init__(self, num_steps: PositiveInt, seconds: NonNegative, preset: str | None) -> None:
        self.num_steps = num_steps
        self.seconds = seconds
        self.preset = preset
        self._first: tuple[int, float] | None = None  # (step, time) once warm
        self._said = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first, self._said = None, False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._said or not trainer.is_global_zero:
            return
        now, step = time.monotonic(), trainer.global_step
        if self._first is None:
            self._first = (step, now)
            return
        steps, elapsed = step - self._first[0], now - self._first[1]
        if steps == 0 or (steps < self.num_steps and elapsed < self.seconds):
            return
        self._said = True
        left = trainer.max_steps - step
        total = elapsed / steps * left
        if left <= 0:
            return
        one, budget = elapsed / steps, find_budget(trainer)
        remaining = "step that is left" if left == 1 else f"{left:,} steps that are left"
        if budget is not None and budget.limit is None:
            budget = None
        if budget is not None and budget.left < total:
            fit = max(0, int(budget.left / one))
            log.info("%.3g s per step: the budget has time for %d of the %s.", one, fit, remaining)
            return
        log.info(
            "%.3g s per step: the %s %s about %s on this machine.",
            one,
            remaining,
            "takes" if left == 1 else "take",
            format_duration(total),
        )
        on_cpu = trainer.strategy.root_device.type == "cpu"
        if on_cpu and total > _HOUR and budget is None:
            log.info(too_long(self.preset))


def too_long(preset: str | None) -> str:
    """Return the line for a CPU that would need more than an hour."""
    made = f" experiment={preset} has settings for 2 CPU cores;" if preset else ""
    return f"Published schedules are made for GPUs:{made} budget=20m takes 20 minutes in all."


def step_finished(trainer: Trainer) -> bool:
    """Tell whether the batch that just ended also ended an outer step.

    It does not within ``trainer.accumulate_grad_batches``, whose gradients no checkpoint holds.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return batches % trainer.accumulate_grad_batches == 0


def find_budget(trainer: Trainer) -> Budget | None:
    """Return the trainer's :class:`Budget`, if it has one."""
    return find_callback(trainer, Budget)


def find_callback(trainer: Trainer, kind: type[C]) -> C | None:
    """Return the trainer's callback of that class, if it has one."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)
