"""CutMix (Yun et al. 2019, arXiv 1905.04899), and augmentations one after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from scipy.special import betaincinv
from torch import Tensor

from ddist.settings.ranges import Positive, Share


@dataclass(frozen=True)
class Mixed:
    """A batch whose images hold parts of one another.

    Image i has ``share`` of its label i and ``1 - share`` of label ``partner[i]``: its loss is
    ``share * loss(y[i]) + (1 - share) * loss(y[partner[i]])``, where weights of samples go with
    the labels they belong to.
    """

    x: Tensor  # [N, C, H, W]
    partner: Tensor  # int64 [N], on the device of x
    share: float


Mix = Callable[[Tensor, torch.Generator], Mixed]


def cutmix(x: Tensor, generator: torch.Generator, *, probability: Share, beta: Positive) -> Mixed:
    """Replace, with ``probability``, the same rectangle of every image [N, C, H, W] by another's.

    Its area is a share 1 - l of the image's, l from Beta(``beta``, ``beta``), and its centre
    uniform; what lies beyond the border is cut off, and the labels' share follows what is left.
    ``x`` is not changed.
    """
    u = torch.rand(4, generator=generator, device=generator.device, dtype=torch.float64).tolist()
    if u[0] >= probability:
        return Mixed(x, torch.arange(len(x), device=x.device), 1.0)
    partner = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    # The inverse of the distribution function, because torch's Beta takes no generator.
    side = sqrt(1 - float(betaincinv(beta, beta, u[1])))
    height, width = x.shape[2:]
    rows, columns = _interval(u[2], height, side), _interval(u[3], width, side)
    mixed = x.clone()
    mixed[:, :, rows, columns] = x[partner][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixed(mixed, partner, 1 - area / (height * width))


def _interval(u: float, size: int, side: float) -> slice:
    """Return ``side`` of ``size`` pixels, about pixel ``u * size``, within the image."""
    centre, half = int(u * size), int(size * side) // 2
    return slice(max(0, centre - half), min(size, centre + half))


class InTurn:
    """Augmentations (x, generator) -> x one after the other, in the order of their names' coming.

    An option of a config cannot be a list that groups compose, so the parts have names.
    """

    def __init__(self, **parts: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        self.parts = parts

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.parts.values():
            x = step(x, generator)
        return x

    def __repr__(self) -> str:
        """Return all that they do, for the signatures of what is made with them."""
        return f"InTurn({self.parts})"
