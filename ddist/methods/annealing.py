"""A schedule of the outer optimizer that ends when the run does, whatever ends it."""

from math import cos, pi
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Annealed(LRScheduler):
    """Half a wave of the cosine, from the rates down to 0, over the run: of its steps or of the
    time that it has for them, whichever has more behind it.

    So rates have fallen at the end of a run of any length, also of one that a budget ends.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.progress = 0.0
        super().__init__(optimizer)

    def reach(self, progress: float) -> None:
        """Set the rates of a run of which the part ``progress`` (0 to 1) is over."""
        self.progress = progress
        self.step()

    def get_lr(self) -> list[Any]:
        share = (1 + cos(pi * min(1.0, self.progress))) / 2
        return [rate * share for rate in self.base_lrs]
