"""Soft labels that are any numbers, as kernel regression learns them, as probabilities."""

import torch
from torch import Tensor

_ROUNDING = 1e-4  # by which the sum of probabilities may miss 1


def are_probabilities(labels: Tensor) -> Tensor:
    """Which rows of float ``labels`` [N, K] are probabilities: bool [N]."""
    return (labels >= 0).all(1) & ((labels.sum(1) - 1).abs() < _ROUNDING)


def nearest_probabilities(labels: Tensor) -> Tensor:
    """``labels`` float [N, K] where they are probabilities; in other rows those with the smallest
    Euclidean distance to them (Duchi et al. 2008, fig. 1)."""
    ranked = labels.sort(1, descending=True).values
    count = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    shifts = (ranked.cumsum(1) - 1) / count  # what is subtracted if that many stay above 0
    kept = (ranked > shifts).sum(1, keepdim=True)
    nearest = (labels - shifts.gather(1, kept - 1)).clamp_min(0)
    return torch.where(are_probabilities(labels)[:, None], labels, nearest)
