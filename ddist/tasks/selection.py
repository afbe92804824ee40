"""The figures that a run may look at, never one of the test set: those of held-out images."""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Evaluator
from ddist.tasks.rows import KeptRows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """The validation accuracies, as fractions, of a set before its first step and after its last,
    each of few networks in a short training."""

    start: float
    end: float

    @property
    def worse(self) -> bool:
        return self.end < self.start

    def selection(self) -> dict[str, Any]:
        """Return what results.json says of it."""
        kept = "start" if self.worse else "end"
        accuracies = {"start": self.start, "end": self.end}
        value = max(accuracies.values())
        return {"name": "validation_accuracy", "value": value, **accuracies, "kept": kept}


def judge(
    judge: Evaluator, start: DistilledDataset, end: DistilledDataset, data: RealData
) -> Judgement:
    """Compare a set with what it started from, on the images held out of training."""
    scores = [judge.run(each, data, data.validation)[0].score() for each in (start, end)]
    judgement = Judgement(*scores)
    shown = (100 * judgement.start, 100 * judgement.end)
    if judgement.worse:
        log.warning(
            "The set became worse than what it started from (%.1f %% on held-out training images, "
            "%.1f %% now): the start is kept. More steps, other rates (method.lr.images) or "
            "another method may do better.",
            *shown,
        )
    else:
        log.info("On held-out training images: %.1f %% at the start, %.1f %% now.", *shown)
    return judgement


def outer_loss(trainer: pytorch_lightning.Trainer, folder: Path) -> float | None:
    """Return the last outer loss; that in ``folder`` where a resumed run had no step left to do.
    None where it is no number: the images are those of before."""
    loss = trainer.callback_metrics.get("distill/loss")
    if loss is not None:
        return float(loss) if math.isfinite(loss) else None
    known = folder / "distilled" / "meta.json"
    outer_loss: float | None = None
    if known.exists():
        outer_loss = json.loads(known.read_text()).get("outer_loss")
    return outer_loss


def select(
    rows: KeptRows,
    distilled: DistilledDataset,
    data: RealData,
    judgement: Judgement | None = None,
) -> dict[str, Any] | None:
    """Return the accuracy on the images held out of training, which ``judgement`` may know, else
    the outer loss; None for methods without one."""
    if judgement is not None:
        return judgement.selection()
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
