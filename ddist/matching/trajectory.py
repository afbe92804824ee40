"""How far a student's end is from an expert's, in units of the way that the expert went."""

from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def trajectory_distance(
    end: Weights, target: Weights, start: Weights, keep: Weights | None = None
) -> Tensor:
    """||end - target||^2 / ||start - target||^2, all weights together (Cazenavette et al. 2022,
    eq. 2): 1 for a student that has not moved, 0 for one that ends where the expert does.

    ``keep``: boolean masks of the entries that count, above and below (Li et al. 2022).
    """

    def square(a: Weights) -> Tensor:
        parts = [(a[name] - target[name]).square() for name in target]
        if keep is not None:
            parts = [part * keep[name] for name, part in zip(target, parts, strict=True)]
        return torch.stack([part.sum() for part in parts]).sum()

    return square(end) / square(start)


@torch.no_grad()
def similarity(a: Weights, b: Weights) -> dict[str, Tensor]:
    """For each entry the smaller size over the larger one, min(|a|, |b|) / max(|a|, |b|), and 0
    where the signs differ: in [0, 1], 1 for equal entries. The ratio that Li et al. (2022) prune
    by, as their paper's words leave it open."""
    found = {}
    for name, x in a.items():
        y = b[name]
        ratio = torch.minimum(x.abs(), y.abs()) / torch.maximum(x.abs(), y.abs())
        found[name] = torch.where(x == y, 1.0, ratio * (x.sign() == y.sign()))
    return found
