"""The student's step sizes while they are being learned."""

from typing import Any, Protocol, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor


class HasStepSizes(Protocol):
    """A method that tells its step sizes."""

    def step_sizes(self) -> Tensor | None: ...


class LogStepSizes(Callback):
    """Callback that logs the mean, the smallest and the largest step size; nothing where none are
    learned."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        sizes = cast(HasStepSizes, pl_module).step_sizes()
        if sizes is not None:
            figures = {"mean": sizes.mean(), "min": sizes.min(), "max": sizes.max()}
            pl_module.log_dict({f"step_size/{name}": value for name, value in figures.items()})
