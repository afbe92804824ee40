"""Bilinear reading of images, differentiable any number of times.

torch before 2.15 cannot differentiate the derivative of its grid_sample. What is read is linear in
the images, so two operators are enough: reading and its transpose, each the derivative of the
other. Their values and gradients are grid_sample's to the last bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

_BILINEAR, _ZEROS = 0, 0  # torch's numbers for the interpolation and for what lies outside


def bilinear(x: Tensor, grid: Tensor) -> Tensor:
    """Read ``x`` [N, C, H, W] at the places ``grid`` [N, h, w, 2], each (x, y) from -1 to 1 between
    the images' borders: [N, C, h, w]. Zeros lie outside.

    ``grid`` is a constant: no gradient flows to it. It is taken in the precision of ``x``; autocast
    makes it bfloat16.
    """
    values: Tensor = _Read.apply(x, grid.detach().to(x.dtype))
    return values


class _Read(Function):
    """grid_sample, whose derivative is :class:`_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradients[0], grid, ctx.shape), None


class _Spread(Function):
    """The transpose of reading: each value is added to the pixels that it was read from, by their
    weights. Its derivative is :class:`_Read`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        images = values.new_zeros(()).expand(shape)  # of which only the shape matters
        x, _ = torch.ops.aten.grid_sampler_2d_backward(
            values, images, grid, _BILINEAR, _ZEROS, False, [True, False]
        )
        assert isinstance(x, Tensor)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Read.apply(gradients[0], grid), None, None
