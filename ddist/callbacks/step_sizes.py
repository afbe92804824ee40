"""How the student's step sizes move while they are being learned."""

from typing import Any, Protocol, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor


class HasStepSizes(Protocol):
    """What this callback needs of the method."""

    def step_sizes(self) -> Tensor | None: ...


class LogStepSizes(Callback):
    """Logs the mean, the smallest and the largest step size; nothing where none are learned."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        sizes = cast(HasStepSizes, pl_module).step_sizes()
        if sizes is not None:
            figures = {"mean": sizes.mean(), "min": sizes.min(), "max": sizes.max()}
            pl_module.log_dict({f"step_size/{name}": value for name, value in figures.items()})
