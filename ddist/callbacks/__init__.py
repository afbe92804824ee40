"""Lightning callbacks and loggers: what a run shows, when it stops and what it can resume from."""

from ddist.callbacks.checkpoint import Checkpoint
from ddist.callbacks.images import SaveImages
from ddist.callbacks.interrupt import Interrupt
from ddist.callbacks.loggers import (
    MetricsCSV,
    tensorboard_logger,
    wandb_logger,
    with_metrics_file,
)
from ddist.callbacks.progress import Progress
from ddist.callbacks.schedule import Budget, TimeEstimate
from ddist.callbacks.step_sizes import LogStepSizes

__all__ = [
    "Budget",
    "Checkpoint",
    "Interrupt",
    "LogStepSizes",
    "MetricsCSV",
    "Progress",
    "SaveImages",
    "TimeEstimate",
    "tensorboard_logger",
    "wandb_logger",
    "with_metrics_file",
]
