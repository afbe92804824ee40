"""Soft labels: any numbers, as kernel regression learns them, as probabilities; those of a teacher
at a temperature, and the largest of them."""

import torch
from torch import Tensor

_ROUNDING = 1e-4  # by which the sum of probabilities may miss 1


def are_probabilities(labels: Tensor) -> Tensor:
    """Tell which rows of float ``labels`` [N, K] are probabilities: bool [N]."""
    return (labels >= 0).all(1) & ((labels.sum(1) - 1).abs() < _ROUNDING)


def nearest_probabilities(labels: Tensor) -> Tensor:
    """Return ``labels`` float [N, K] where they are probabilities; in other rows those with the
    smallest Euclidean distance to them (Duchi et al. 2008, fig. 1)."""
    ranked = labels.sort(1, descending=True).values
    count = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    shifts = (ranked.cumsum(1) - 1) / count  # what is subtracted if that many stay above 0
    num_positive = (ranked > shifts).sum(1, keepdim=True)
    nearest = (labels - shifts.gather(1, num_positive - 1)).clamp_min(0)
    return torch.where(are_probabilities(labels)[:, None], labels, nearest)


def at_temperature(p: Tensor, old: float, new: float) -> Tensor:
    """Return softmax(logits / ``new``), float32 [N, K], of ``p`` = softmax(logits / ``old``), which
    tells the logits but for a constant that changes neither."""
    powers = p.float() ** (old / new)
    return powers / powers.sum(1, keepdim=True)


def keep_top(p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest probabilities of each row of ``p`` [N, K], float16 [N, k], and where
    they are, in as few bytes as the number of classes takes: integers [N, k]."""
    values, indices = p.float().topk(k, dim=1)
    num_classes = p.shape[1]
    small = torch.uint8 if num_classes <= 2**8 else torch.int16
    return values.half(), indices.to(small if num_classes <= 2**15 else torch.int32)


def restore_top(values: Tensor, indices: Tensor, num_classes: int) -> Tensor:
    """Return what :func:`keep_top` kept as probabilities float16 [N, ``num_classes``]: the other
    classes share what is left of 1 evenly."""
    rest = (1 - values.float().sum(1, keepdim=True)).clamp_min(0)
    rest = rest / (num_classes - values.shape[1])
    return rest.half().repeat(1, num_classes).scatter(1, indices.long(), values)
