"""Progress in outer steps: a live bar in a terminal, a few plain lines anywhere else."""

import logging
import time
from typing import Any

import rich
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from ddist.callbacks.schedule import find_budget
from ddist.formatting import format_duration
from ddist.settings.ranges import NonNegative
from ddist.stages.bars import bar_console

log = logging.getLogger(__name__)


class Progress(ProgressBar):
    """Bar or lines with the outer step, the metrics logged with ``prog_bar=True``, steps/s and the
    time left.

    ``live``: whether to draw a bar that moves; None means in a terminal only. Otherwise a plain
    line is logged every ``line_fraction`` of the schedule or every ``line_seconds``, whichever is
    sooner, so that a log file stays short and a slow run still shows life.
    """

    def __init__(
        self, live: bool | None, line_fraction: NonNegative, line_seconds: NonNegative
    ) -> None:
        super().__init__()
        self.live = live
        self.line_fraction = line_fraction
        self.line_seconds = line_seconds
        self._enabled = True
        self._bar: RichProgress | None = None
        self._first: tuple[int, float] | None = None  # (step, time) after the first, slow step
        self._shown: tuple[int, float] = (0, 0.0)  # (step, time) of the last plain line

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first, self._shown = None, (trainer.global_step, time.monotonic())
        console = rich.get_console() if self.live else bar_console()
        if self._enabled and console is not None and self.live is not False:
            self._bar = RichProgress(
                TextColumn("distilling"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}"),
                console=console,
                expand=True,
                refresh_per_second=4,
            )
            self._bar.add_task(
                "", total=trainer.max_steps, completed=trainer.global_step, text="first step"
            )
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not self._enabled:
            return
        step, now = trainer.global_step, time.monotonic()
        if self._first is None:
            self._first = (step, now)
        line_steps = max(1, round(self.line_fraction * trainer.max_steps))
        if self._bar is not None:
            task = self._bar.task_ids[0]
            # Metrics are read from the device, which waits for it: not more often than is seen.
            if now - self._shown[1] >= 0.25 or step == trainer.max_steps:
                self._shown = (step, now)
                self._bar.update(task, text=self._text(trainer))
            self._bar.update(task, completed=step)
        elif step - self._shown[0] >= line_steps or now - self._shown[1] >= self.line_seconds:
            self._shown = (step, now)
            log.info("%s", self._text(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _text(self, trainer: Trainer) -> str:
        """Return ``step 120/1,000 · loss 0.412 · 4.1 steps/s · 3 min 35 s left``."""
        step, total = trainer.global_step, trainer.max_steps
        words = [f"step {step:,}/{total:,}"]
        for name, value in trainer.progress_bar_metrics.items():
            words.append(f"{name.rsplit('/', 1)[-1]} {float(value):.3g}")
        first_step, first_time = self._first or (step, 0.0)
        steps, seconds = step - first_step, time.monotonic() - first_time
        if steps > 0 and seconds > 0:
            seconds_left = (total - step) * seconds / steps
            budget = find_budget(trainer)
            if budget is not None:
                seconds_left = max(0.0, min(seconds_left, budget.left))
            words += [f"{steps / seconds:.3g} steps/s", f"{format_duration(seconds_left)} left"]
        return " · ".join(words)
