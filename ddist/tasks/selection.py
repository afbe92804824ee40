"""The figure that a search may look at, never one of the test set."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.tasks.rows import KeptRows


def outer_loss(trainer: pytorch_lightning.Trainer, folder: Path) -> float | None:
    """Return the last outer loss; that in ``folder`` where a resumed run had no step left to do."""
    loss = trainer.callback_metrics.get("distill/loss")
    if loss is not None:
        return float(loss)
    known = folder / "distilled" / "meta.json"
    outer_loss: float | None = None
    if known.exists():
        outer_loss = json.loads(known.read_text()).get("outer_loss")
    return outer_loss


def select(rows: KeptRows, distilled: DistilledDataset, data: RealData) -> dict[str, Any] | None:
    """Return the accuracy on the images held out of training, else the outer loss; None for methods
    without one."""
    if data.validation is not None:
        value = rows.run("validation", distilled, data, data.validation)[0].score()
        return {"name": "validation_accuracy", "value": value}
    loss = distilled.meta.get("outer_loss")
    return None if loss is None else {"name": "outer_loss", "value": loss}


def searched(selection: dict[str, Any] | None) -> float | None:
    """Return what a search minimises, from ``selection`` in results.json; None without one."""
    if selection is None:
        return None
    sign = -1 if selection["name"] == "validation_accuracy" else 1
    return sign * float(selection["value"])
