"""How a protocol's step size falls."""

from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any, Literal

from ddist.inner.recipe import Scale, TrainingRecipe

ScheduleName = Literal[
    "halfway", "multistep", "warmup_cosine", "cosine", "smooth_cosine", "constant"
]
WARM_UP = 500  # steps


@dataclass(frozen=True)
class Schedule:
    """``passes`` over the data; after each of ``drops`` (counted from 0) the step size is
    multiplied by ``factor``, with a fresh momentum buffer where ``reset_momentum``. ``scale`` is
    a recipe's ``lr_scale``."""

    passes: int
    drops: tuple[int, ...] = ()
    factor: float = 1.0
    reset_momentum: bool = False
    scale: Scale | None = None

    def recipe(self, **others: Any) -> TrainingRecipe:
        """Return the training whose step size falls like this and that ``others`` describe."""
        return TrainingRecipe(
            epochs=self.passes,
            lr_drops=self.drops,
            lr_factor=self.factor,
            reset_momentum=self.reset_momentum,
            lr_scale=self.scale,
            **others,
        )


def schedule_by_name(name: ScheduleName, epochs: int) -> Schedule:
    """Return the schedule ``name``. ``halfway``: the code of Zhao et al. 2021, for comparability:
    epochs + 1 passes, a tenth once after pass epochs // 2 + 1, where the momentum starts anew.
    ``multistep``: a fifth after two thirds and again after five sixths (Kim et al. 2022).
    ``warmup_cosine``: step by step, see :func:`warmup_cosine` (Zhou et al. 2022, code).
    ``cosine`` and ``smooth_cosine``: step by step, see :func:`cosine`, with zeta 1 (Yin et al.
    2023) and 2 (Shao et al. 2024; Sun et al. 2024, code).
    ``constant``: no drop."""
    if name == "halfway":
        return Schedule(epochs + 1, (epochs // 2 + 1,), 0.1, reset_momentum=True)
    if name == "multistep":
        return Schedule(epochs, (2 * epochs // 3 - 1, 5 * epochs // 6 - 1), 0.2)
    if name == "warmup_cosine":
        return Schedule(epochs, scale=warmup_cosine)
    if name in ("cosine", "smooth_cosine"):
        return Schedule(epochs, scale=partial(cosine, zeta=1 if name == "cosine" else 2))
    return Schedule(epochs)


def warmup_cosine(step: int, steps: int) -> float:
    """Return the share of the step size at ``step``, counted from 0: a straight line from 0 to 1
    over the first 500 steps, then half a cosine wave down to 1/100 over the rest of ``steps``."""
    if step < WARM_UP:
        return step / WARM_UP
    progress = min(1.0, (step - WARM_UP) / max(1, steps - WARM_UP))
    return 0.01 + 0.99 * (1 + cos(pi * progress)) / 2


def cosine(step: int, steps: int, zeta: float) -> float:
    """Return the share of the step size at ``step``, counted from 0: the first 1/``zeta`` of half a
    cosine wave from 1 to 0; with ``zeta`` 2 it ends at a half."""
    return (1 + cos(pi * step / (zeta * steps))) / 2
