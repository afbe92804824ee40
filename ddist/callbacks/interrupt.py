"""Ctrl-C finishes the outer step, then everything that a finished run saves is saved."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ddist.callbacks.schedule import step_finished
from ddist.settings.ranges import NonNegative
from ddist.stages.stopping import SIGNALS, heard

log = logging.getLogger(__name__)


class Interrupt(Callback):
    """Callback that turns the first Ctrl-C (or SIGTERM) into a stop after the current outer step.

    A KeyboardInterrupt may hit the middle of an optimizer step, where no exact checkpoint can be
    taken. A second Ctrl-C interrupts at once, and so does a step that is not over after
    ``patience`` seconds, as a cluster kills before long. ``received`` is the signal that came, None
    without one: the task saves the artifact so far and exits with ``128 + received``.
    """

    def __init__(self, patience: NonNegative) -> None:
        self.patience = patience
        self.received: int | None = None
        self._previous: dict[int, Any] = {}
        self._second: threading.Timer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Python lets only the main thread of a process handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        heard()
        self.received = number
        self._restore()
        self._second = threading.Timer(self.patience, os.kill, (os.getpid(), number))
        self._second.daemon = True
        self._second.start()
        log.warning(
            "%s: stopping after this outer step, or in %g s at the latest, and saving what is "
            "there; once more stops at once.",
            signal.Signals(number).name,
            self.patience,
        )

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not step_finished(trainer):
            return
        # Either every rank stops after this step or none does, whichever of them got the signal.
        if trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            self.received = self.received or signal.SIGINT
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
        if self._second is not None:
            self._second.cancel()
            self._second = None
