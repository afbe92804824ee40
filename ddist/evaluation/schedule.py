"""How a protocol's step size falls."""

from dataclasses import dataclass

from ddist.errors import DdistError


@dataclass(frozen=True)
class Schedule:
    """``passes`` over the data; after each of ``drops`` (counted from 0) the step size is
    multiplied by ``factor``, with a fresh momentum buffer where ``reset_momentum``."""

    passes: int
    drops: tuple[int, ...] = ()
    factor: float = 1.0
    reset_momentum: bool = False


def schedule_by_name(name: str, epochs: int) -> Schedule:
    """``halfway``: what the code of Zhao et al. 2021 does, kept so that numbers compare: epochs + 1
    passes, a tenth once after pass epochs // 2 + 1, where the momentum starts anew.
    ``multistep``: a fifth after two thirds and again after five sixths (Kim et al. 2022).
    ``constant``: no drop. Raises DdistError for another name."""
    if name == "halfway":
        return Schedule(epochs + 1, (epochs // 2 + 1,), 0.1, reset_momentum=True)
    if name == "multistep":
        return Schedule(epochs, (2 * epochs // 3 - 1, 5 * epochs // 6 - 1), 0.2)
    if name == "constant":
        return Schedule(epochs)
    raise DdistError(f"evaluation.schedule is one of halfway, multistep, constant, not {name!r}.")
