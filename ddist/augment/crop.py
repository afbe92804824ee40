"""Random crops, enlarged or reduced, and tiles in another order: what the decoupled methods train
with (torchvision's RandomResizedCrop, one crop for each image, on the device).

Resizing is linear and separable, so the crops of a batch are two products with matrices [N, out,
in] that select and resize at once: differentiable, and the same numbers as
``torch.nn.functional.interpolate(..., mode="bilinear", antialias=True)`` of each crop.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.settings.ranges import PositiveInt

_ATTEMPTS = 10  # as torchvision has it


class RandomResizedCrop:
    """A random part of each image, resized; mirrored with probability 1/2 where ``mirror``.

    Args:
        scale: the least and largest share of the image's area.
        ratio: the least and largest width over height, drawn uniformly in its logarithm.
        mirror: whether an image is mirrored.
        size: height and width of what comes out; None for the image's own.

    Raises DdistError for ranges that are none.
    """

    def __init__(
        self,
        *,
        scale: Sequence[float],
        ratio: Sequence[float],
        mirror: bool,
        size: tuple[int, int] | None = None,
    ) -> None:
        for name, pair in (("scale", scale), ("ratio", ratio)):
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] or (name == "scale" and pair[1] > 1):
                raise DdistError(
                    f"A crop's {name} is a range such as [0.5, 1.0], not {list(pair)}."
                )
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        self.mirror, self.size = mirror, size

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the crops [N, C, height, width] of float images ``x`` [N, C, H, W]."""
        boxes = self.boxes(len(x), (x.shape[2], x.shape[3]), generator)
        x = resize(x, boxes, self.size or (x.shape[2], x.shape[3]))
        if not self.mirror:
            return x
        heads = torch.rand(len(x), generator=generator, device=generator.device) < 0.5
        return torch.where(heads.to(x.device)[:, None, None, None], x.flip(3), x)

    def larger(self, share: float) -> "RandomResizedCrop":
        """Return the same crop, whose smallest area is ``share`` of the way to its largest."""
        low, high = self.scale
        scale = (low + share * (high - low), high)
        return RandomResizedCrop(scale=scale, ratio=self.ratio, mirror=self.mirror, size=self.size)

    def boxes(self, num: int, side: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw ``num`` parts of images of height and width ``side``: int64 [num, 4], each the first
        row, the rows, the first column, the columns. The first of ten draws that fits; else the
        largest one in the middle."""
        height, width = side
        device = generator.device
        u = torch.rand(4, num, _ATTEMPTS, generator=generator, device=device, dtype=torch.float64)
        area = height * width * (self.scale[0] + u[0] * (self.scale[1] - self.scale[0]))
        low, high = log(self.ratio[0]), log(self.ratio[1])
        ratio = torch.exp(low + u[1] * (high - low))
        rows, columns = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
        first = fits.int().argmax(1, keepdim=True)
        rows, columns, place_y, place_x = (
            drawn.gather(1, first)[:, 0] for drawn in (rows, columns, u[2], u[3])
        )
        none_fits = ~fits.any(1)
        rows[none_fits] = min(height, round(width / self.ratio[0]))
        columns[none_fits] = min(width, round(height * self.ratio[1]))
        place_y[none_fits] = place_x[none_fits] = 0.5
        top = (place_y * (height - rows + 1 - none_fits.double())).floor()
        left = (place_x * (width - columns + 1 - none_fits.double())).floor()
        return torch.stack([top, rows, left, columns], 1).long()

    def __repr__(self) -> str:
        """Return all that it does, for the signatures of what is made with it."""
        return f"RandomResizedCrop({self.scale}, {self.ratio}, {self.mirror}, {self.size})"


def resize(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the parts ``boxes`` (int64 [N, 4], see :meth:`RandomResizedCrop.boxes`) of the images
    ``x`` [N, C, H, W], resized to ``size``, bilinearly and without aliasing. Differentiable in
    ``x``."""
    boxes = boxes.to(x.device)
    down = _matrices(boxes[:, 0], boxes[:, 1], x.shape[2], size[0], x.dtype)
    across = _matrices(boxes[:, 2], boxes[:, 3], x.shape[3], size[1], x.dtype)
    return down[:, None] @ x @ across[:, None].mT


def _matrices(start: Tensor, length: Tensor, side: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return [N, size, side]: row i has the weights of the ``length`` pixels from ``start`` in
    pixel i."""
    pixels = torch.arange(side, device=start.device)
    steps = (length.double() / size)[:, None, None]
    centres = (
        start[:, None, None] + (torch.arange(size, device=start.device) + 0.5)[:, None] * steps
    )
    weights = (1 - (pixels + 0.5 - centres).abs() / steps.clamp_min(1)).clamp_min(0)
    begin, end = start[:, None, None], (start + length)[:, None, None]
    weights = weights * ((pixels >= begin) & (pixels < end))
    return (weights / weights.sum(2, keepdim=True)).to(dtype)


class ShufflePatches:
    """Columns of patches in a random order, then rows of them, ``factor`` x ``factor`` in each
    image: a stitched image's crops stay whole (Sun et al. 2024, the authors' code)."""

    def __init__(self, *, factor: PositiveInt) -> None:
        self.factor = factor

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images [N, C, H, W], the patches of each in an order of its own."""
        if self.factor == 1:
            return x
        columns = self._order(len(x), x.shape[3], generator).to(x.device)
        x = x.gather(3, columns[:, None, None].expand_as(x))
        rows = self._order(len(x), x.shape[2], generator).to(x.device)
        return x.gather(2, rows[:, None, :, None].expand_as(x))

    def _order(self, num: int, side: int, generator: torch.Generator) -> Tensor:
        """Draw the pixels of a side, patch by patch: int64 [num, side]; the last patch is the
        longest where they do not come out even."""
        device = generator.device
        patch = (torch.arange(side, device=device) // (side // self.factor)).clamp_max(
            self.factor - 1
        )
        places = torch.rand(num, self.factor, generator=generator, device=device).argsort(1)
        return places[:, patch].argsort(dim=1, stable=True)

    def __repr__(self) -> str:
        return f"ShufflePatches({self.factor})"
