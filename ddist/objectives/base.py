"""The base of objectives that are more than a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn.functional import cross_entropy

Measure = Callable[[Tensor, Tensor], Tensor]
"""(predicted classes int64 [K, N], true classes int64 [N]) -> a fraction for each network [K]."""


class Objective(ABC):
    """A loss on real data, (logits [B, K], y [B]) -> scalar, that calls each image what
    :meth:`targets` says, and what else is to be measured while networks are trained for it.

    (One without wishes of its own is a plain function, see
    :func:`ddist.objectives.classification`.)
    """

    needs_trained = False
    """Tells whether it is about networks that were trained before."""
    measures: Mapping[str, Measure] = {}
    """Reported after each step, by the names in results.json; ``accuracy_as_wanted``, by
    which sets are selected, is one of them."""

    @abstractmethod
    def check(self, num_classes: int) -> None:
        """Raise a DdistError unless it fits data of so many classes."""

    @abstractmethod
    def targets(self, y: Tensor) -> Tensor:
        """Return what the student is to call images of the classes ``y`` (int64, any shape)."""

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits, self.targets(y))
