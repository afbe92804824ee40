"""One checkpoint to resume from, ``last.ckpt``, written between outer steps and never half."""

import os
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint as LightningCheckpoint

from ddist.callbacks.schedule import step_finished
from ddist.settings.ranges import NonNegative


class Checkpoint(LightningCheckpoint):
    """Callback that saves ``path`` every ``seconds`` seconds and when distilling ends or is
    stopped.

    Lightning's ModelCheckpoint is not used for three reasons, read in 2.6.6: with
    ``save_last`` alone it leaves a stale file when training ends; it writes to the system's
    temporary folder and moves the file over, which is not atomic across file systems; and on
    Ctrl-C it may save in the middle of an optimizer step, after which a resume ends elsewhere.
    """

    def __init__(self, path: str | Path, seconds: NonNegative) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self._saved_at = 0.0  # on the monotonic clock
        self._saved_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not step_finished(trainer):
            return
        due = time.monotonic() - self._saved_at >= self.seconds
        # All ranks take part in saving, so they must agree on when.
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self._saved_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        partial = self.path.with_name(self.path.name + ".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
