"""One function for each thing that is shown, whichever dashboard shows it: Weights & Biases or
TensorBoard. Loggers that show nothing (metrics.csv) get nothing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL.Image import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from ddist.artifact.dataset import DistilledDataset


def log_picture(logger: Logger, name: str, picture: Image, step: int) -> None:
    """Log ``picture`` after the outer step that Lightning logs as ``step``."""
    match logger:
        case WandbLogger():
            logger.log_image(key=name, images=[picture], step=step)
        case TensorBoardLogger():
            pixels = np.asarray(picture)
            order = "HW" if pixels.ndim == 2 else "HWC"
            logger.experiment.add_image(name, pixels, step, dataformats=order)


def log_table(
    logger: Logger, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Log a table of words, numbers and None."""
    match logger:
        case WandbLogger():
            logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])
        case TensorBoardLogger():
            lines = [columns, ["---"] * len(columns), *rows]
            text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
            logger.experiment.add_text(name, text)


def log_summary(logger: Logger, figures: Mapping[str, Any]) -> None:
    """Log single figures of the whole run; TensorBoard knows numbers only."""
    match logger:
        case WandbLogger():
            logger.experiment.summary.update(dict(figures))
        case TensorBoardLogger():
            for name, value in figures.items():
                if isinstance(value, int | float):
                    logger.experiment.add_scalar(name, value)


def log_set(logger: WandbLogger, distilled: DistilledDataset, name: str) -> None:
    """Log the distilled set as an artifact, a version of ``name``: the folder that ``ddist.load``
    reads."""
    import wandb

    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "distilled"
        distilled.save(folder)
        about = json.loads(json.dumps(distilled.meta, default=str))
        artifact = wandb.Artifact(name, type="distilled-dataset", metadata=about)
        artifact.add_dir(str(folder))  # copies the files
        logger.experiment.log_artifact(artifact)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
