"""Synthetic images as sums of a pyramid's levels, from coarse to fine, in decorrelated colours
(Cazenavette et al. 2025, arXiv 2511.16674; after Olah et al. 2017, Feature Visualization)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddist.artifact.multiformation import compose
from ddist.data import RealData
from ddist.settings.ranges import PositiveInt
from ddist.synthetic.pixel import Pixel
from ddist.synthetic.start import sample

_COLOURS = 1000  # training images that the colours are taken from
_MARGIN = 0.02  # from black and from white, where a sigmoid has hardly any slope


class Pyramid(Pixel):
    """Images x = norm(sigmoid(M u)), u = l_K + up(l_{K-1} + up(... + up(l_1))), of learned levels
    l_k whose sides double from one to the next, up to that of the images.

    M [C, C] is the square root of the covariance of real pixels' colours, scaled to columns of
    length 1 at most: red, green and blue change together as they do in pictures. All levels learn
    at one rate, so that an optimizer such as Adam moves coarse shapes and fine ones alike, where
    single pixels would give patterns that one network alone can read.

    Args:
        data, ...: see :class:`ddist.synthetic.pixel.Pixel`; where ``bounded`` is false there is no
            sigmoid, and M u is in training space.
        coarsest: the most pixels of a side of the first level.
    """

    colour: Tensor

    def __init__(
        self,
        data: RealData,
        class_labels: Tensor,
        generator: torch.Generator,
        *args: Any,
        coarsest: PositiveInt,
        bounded: bool,
        **options: Any,
    ) -> None:
        super().__init__(data, class_labels, generator, *args, bounded=bounded, **options)
        first, learned = self.images.detach(), self.images.requires_grad
        del self.images
        self._space = data.normalization if bounded else None
        self._sides = sides(first.shape[2], first.shape[3], coarsest)
        self.register_buffer("colour", colour_matrix(sample(data, _COLOURS)).to(first))
        levels = split(self._undone(first), self._sides)
        self.levels = nn.ParameterList([nn.Parameter(level, learned) for level in levels])

    def shown(self) -> Tensor:
        u = torch.einsum("cd,ndhw->nchw", self.colour, joined(list(self.levels)))
        return u if self._space is None else self._space.to(u.device)(u.sigmoid())

    def show(self, images: Tensor) -> None:
        levels = split(self._undone(compose(images, self.factor)), self._sides)
        for level, value in zip(self.levels, levels, strict=True):
            level.copy_(value)

    def project(self) -> None:
        """Do nothing: no levels leave the range of pixels."""

    def _undone(self, x: Tensor) -> Tensor:
        """Return u of images in training space, away from black and white."""
        if self._space is not None:
            pixels = self._space.to(x.device).inverse(x)
            x = pixels.clamp(_MARGIN, 1 - _MARGIN).logit()
        return torch.einsum("cd,ndhw->nchw", torch.linalg.inv(self.colour), x)


def sides(height: int, width: int, coarsest: int) -> list[tuple[int, int]]:
    """Return the heights and widths of a pyramid's levels, the coarsest first: halved, and rounded
    up, until no side has more than ``coarsest`` pixels."""
    found = [(height, width)]
    while max(found[0]) > max(1, coarsest):
        found.insert(0, (-(-found[0][0] // 2), -(-found[0][1] // 2)))
    return found


def joined(levels: Sequence[Tensor]) -> Tensor:
    """Return the sum [N, C, H, W] of the levels, each enlarged to the next one bilinearly."""
    total = levels[0]
    for level in levels[1:]:
        total = level + F.interpolate(total, level.shape[2:], mode="bilinear")
    return total


def split(u: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return levels of ``sizes`` whose sum is ``u`` [N, C, H, W]: each holds what the ones before
    lack of ``u`` at its size (Burt & Adelson 1983)."""
    levels = [F.interpolate(u, sizes[0], mode="area")]
    total = levels[0]
    for size in sizes[1:]:
        enlarged = F.interpolate(total, size, mode="bilinear")
        total = F.interpolate(u, size, mode="area")
        levels.append(total - enlarged)
    return levels


def colour_matrix(pixels: Tensor) -> Tensor:
    """Return M [C, C] for pixels [N, C, H, W]: the symmetric square root of their colours'
    covariance, no column of which is longer than 1."""
    colours = pixels.transpose(0, 1).flatten(1).double()  # [C, N H W]
    values, vectors = torch.linalg.eigh(torch.atleast_2d(colours.cov()))
    root = vectors @ torch.diag(values.clamp_min(1e-6).sqrt()) @ vectors.T
    return (root / root.norm(dim=0).max()).float()
