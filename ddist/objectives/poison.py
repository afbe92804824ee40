"""Malicious data poisoning (Wang, Zhu, Torralba & Efros 2018, arXiv 1811.10959, section 3.6)."""

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.objectives.base import Objective
from ddist.settings.ranges import NonNegativeInt


class Poison(Objective):
    """Well-trained networks shall call one class another and leave the rest as it was:

        l(theta) = cross-entropy of p(x; theta) and y',   y' = T where y = K, else y

    Here to study the threat: images that look like none, in a batch or a few, turn a network that
    goes on learning.

    Args:
        attacked: K.
        target: T.
    """

    needs_trained = True

    def __init__(self, attacked: NonNegativeInt, target: NonNegativeInt) -> None:
        if attacked == target:
            raise DdistError(
                f"objective.attacked and objective.target are both {attacked}: name two classes."
            )
        self.attacked, self.target = attacked, target
        self.measures = {
            "attacked_accuracy": self.attacked_accuracy,
            "attacked_as_target": self.attacked_as_target,
            "others_accuracy": self.others_accuracy,
            "accuracy": lambda predicted, y: share(predicted == y),
            "accuracy_as_wanted": lambda predicted, y: share(predicted == self.targets(y)),
        }

    def check(self, num_classes: int) -> None:
        for name, value in (("attacked", self.attacked), ("target", self.target)):
            if value >= num_classes:
                raise DdistError(
                    f"objective.{name}={value} is none of the {num_classes} classes: choose one "
                    f"from 0 to {num_classes - 1}."
                )

    def targets(self, y: Tensor) -> Tensor:
        return torch.where(y == self.attacked, self.target, y)

    def attacked_accuracy(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the fraction of the attacked class that is called what it is."""
        return share(predicted[:, y == self.attacked] == self.attacked)

    def attacked_as_target(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the fraction of the attacked class that is called the target."""
        return share(predicted[:, y == self.attacked] == self.target)

    def others_accuracy(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the fraction of all other classes, the target's among them, that is called what it
        is."""
        others = y != self.attacked
        return share(predicted[:, others] == y[others])


def share(hits: Tensor) -> Tensor:
    """Return the fraction of hits [K, N] of each network [K], float64."""
    return hits.double().mean(1)
