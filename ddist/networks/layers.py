"""Layers that networks choose by name."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "leaky_relu", "gelu", "sigmoid", "tanh"]
Norm = Literal["instance", "group", "layer", "batch", "none"]
Pooling = Literal["avg", "max", "none"]

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}

NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    # One group per channel is instance normalisation with an affine map, as in the DC family.
    "instance": lambda channels: nn.GroupNorm(channels, channels),
    "group": lambda channels: nn.GroupNorm(4, channels),
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "batch": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}

POOLINGS: dict[Pooling, Callable[[], nn.Module]] = {
    "avg": lambda: AvgPool2x2(),
    "max": lambda: MaxPool2x2(),
    "none": nn.Identity,
}


def activation(kind: Activation) -> nn.Module:
    return ACTIVATIONS[kind]()


def norm(kind: Norm, channels: int) -> nn.Module:
    """Make a normalisation of [N, channels, H, W]. Only ``batch`` keeps running statistics; such
    networks cannot be stacked and are trained one after the other."""
    return NORMS[kind](channels)


def pooling(kind: Pooling) -> nn.Module:
    """Make a layer that halves height and width, or does nothing (``none``)."""
    return POOLINGS[kind]()


def first_conv(image_shape: tuple[int, int, int], width: int, kernel: int) -> nn.Conv2d:
    """Make a convolution that keeps height and width, but pads 28x28 images to 32x32 (as the
    condensation literature does with MNIST)."""
    extra = 2 if image_shape[1:] == (28, 28) else 0
    return nn.Conv2d(image_shape[0], width, kernel, padding=kernel // 2 + extra)


class MaxPool2x2(nn.Module):
    """``nn.MaxPool2d(2)``, the same numbers; on CPUs ten times faster where no gradient is taken.

    Put it before a monotone activation rather than after: they commute, and the activation then
    has a quarter of the work.
    """

    def forward(self, x: Tensor) -> Tensor:
        # torch's CPU kernel tracks indices, pixel by pixel: it took 60 % of LeNet's evaluation.
        return F.max_pool2d(x, 2) if _library(x) else _in_pairs(x, torch.maximum)


class AvgPool2x2(nn.Module):
    """``nn.AvgPool2d(2)``, the same numbers to rounding. On CPUs four times faster where no
    gradient is taken, and twice as fast with gradients of any order, as a product with a constant
    matrix (torch's kernel took a fifth of ConvNet-3's passes)."""

    def forward(self, x: Tensor) -> Tensor:
        if not _library(x):
            return _in_pairs(x, torch.add) * 0.25
        if x.is_cuda or torch.compiler.is_compiling():
            return F.avg_pool2d(x, 2)
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        x = x[..., : 2 * height, : 2 * width]
        rows = x.reshape(*x.shape[:-2], height, 4 * width)  # two rows beside each other
        halves = torch.eye(width, dtype=x.dtype, device=x.device).repeat_interleave(2, 0)
        return rows @ (halves.repeat(2, 1) * 0.25)


def _library(x: Tensor) -> bool:
    return torch.is_grad_enabled() or x.is_cuda


def _in_pairs(x: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Join neighbouring rows, then neighbouring columns; an odd last one is left out."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    x = x[..., : 2 * height, : 2 * width]
    x = join(x[..., 0::2, :], x[..., 1::2, :])
    return join(x[..., 0::2], x[..., 1::2])


class LocalResponseNorm(nn.Module):
    """AlexNet's normalisation across channels, ``x / (k + alpha * mean_size(x^2))^beta``.

    Equal to ``nn.LocalResponseNorm`` (zero padding ``size // 2`` below, ``(size - 1) // 2`` above),
    as a sum of ``size`` shifted slices: faster twice differentiated and under ``torch.func.vmap``
    than the 3-d pooling torch uses.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        squares = F.pad(x.square(), (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
        total = squares[:, :channels]
        for shift in range(1, self.size):
            total = total + squares[:, shift : shift + channels]
        return x * (self.k + self.alpha / self.size * total).pow(-self.beta)
