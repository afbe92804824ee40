"""The purpose of the trained student, as a loss on real data."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from ddist.objectives.base import Measure, Objective
from ddist.objectives.poison import Poison

__all__ = ["Measure", "Objective", "Poison", "classification"]


def classification(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [B, K] against classes y [B]: the student should be
    right."""
    return cross_entropy(logits, y)
