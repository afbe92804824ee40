"""Pictures of the synthetic images while they are being learned."""

import math
from pathlib import Path
from typing import Any, Protocol, cast

from PIL.Image import Image
from pytorch_lightning import Callback, Trainer

from ddist.callbacks.dashboards import log_picture
from ddist.settings.ranges import PositiveInt


class HasPicture(Protocol):
    """A method that shows the synthetic images as one picture."""

    def picture(self) -> Image: ...


class SaveImages(Callback):
    """Callback that saves ``num_pictures`` pictures, evenly spaced over the run, as
    ``folder/step_000100.png``.

    Dashboards (``logger=wandb``, ``logger=tensorboard``) get them as ``synthetic/images`` too.
    """

    def __init__(self, folder: str | Path, num_pictures: PositiveInt) -> None:
        self.folder = Path(folder)
        self.num_pictures = num_pictures

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        step = trainer.global_step
        if self.num_pictures == 0 or not trainer.is_global_zero:
            return
        if step % math.ceil(trainer.max_steps / self.num_pictures) and step != trainer.max_steps:
            return
        picture = cast(HasPicture, pl_module).picture()
        self.folder.mkdir(parents=True, exist_ok=True)
        picture.save(self.folder / f"step_{step:06d}.png")
        for logger in trainer.loggers:
            # Lightning logs the metrics of the step that made this one ``global_step`` at
            # ``global_step - 1``; wandb's x axis must not go back.
            log_picture(logger, "synthetic/images", picture, step - 1)
