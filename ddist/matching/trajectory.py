"""Distance of a student's end from an expert's, in units of the way that the expert went."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddist.inner.steps import Batch, State, Step

Weights = Mapping[str, Tensor]


def trajectory_distance(
    end: Weights, target: Weights, start: Weights, keep: Weights | None = None
) -> Tensor:
    """Return ||end - target||^2 / ||start - target||^2, all weights together (Cazenavette et al.
    2022, eq. 2): 1 for a student that has not moved, 0 for one that ends where the expert does.

    ``keep``: boolean masks of the entries that count, above and below (Li et al. 2022).
    """

    def squared_distance(a: Weights) -> Tensor:
        squares = {name: (a[name] - w).square() for name, w in target.items()}
        if keep is not None:
            squares = {name: square * keep[name] for name, square in squares.items()}
        return torch.stack([square.sum() for square in squares.values()]).sum()

    return squared_distance(end) / squared_distance(start)


@torch.no_grad()
def similarity(a: Weights, b: Weights) -> dict[str, Tensor]:
    """Return for each entry the smaller size over the larger one, min(|a|, |b|) / max(|a|, |b|),
    and 0 where the signs differ: in [0, 1], 1 for equal entries. The ratio that Li et al. (2022)
    prune by, as their paper's words leave it open."""
    similarities = {}
    for name, x in a.items():
        y = b[name]
        ratio = torch.minimum(x.abs(), y.abs()) / torch.maximum(x.abs(), y.abs())
        similarities[name] = torch.where(x == y, 1.0, ratio * (x.sign() == y.sign()))
    return similarities


@torch.no_grad()
def nearest_step(
    step: Step, start: State, batches: Sequence[Batch], size: Tensor, target: Weights
) -> int:
    """Return after how many steps of ``size``, one per batch, a student from ``start`` is nearest
    to ``target``, by the sum of absolute differences (Liu et al. 2024, arXiv 2407.14245)."""
    state, distances = start, []
    for batch in batches:
        state = step(state, batch, size)
        differences = [(state[name] - w).abs().sum() for name, w in target.items()]
        distances.append(torch.stack(differences).sum())
    return 1 + int(torch.stack(distances).argmin())
