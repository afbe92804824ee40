"""The base of all kernels: their settings, and blocks of bounded memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ddist.errors import DdistError
from ddist.kernels.activations import ActivationName, activation_by_name
from ddist.settings.ranges import NonNegative, NonNegativeInt, Positive

Kind = Literal["ntk", "nngp"]


class Kernel(ABC):
    """The kernel of an infinitely wide network with weights ~ N(0, weight_std^2 / fan-in) and
    biases ~ N(0, bias_std^2), in double precision.

    Args:
        depth: hidden layers; 0 is a linear model.
        activation: "relu" or "erf".
        weight_std, bias_std: of every layer.
        kind: "ntk", the kernel of the regression that gradient descent on the squared error comes
            down to (Jacot et al. 2018), or "nngp", the covariance of outputs before any training.
        memory: MiB that a block of the matrix may take with its graph. Where there are several
            blocks, each is computed once more for its gradient.
    """

    def __init__(
        self,
        *,
        depth: NonNegativeInt,
        activation: ActivationName,
        weight_std: Positive,
        bias_std: NonNegative,
        kind: Kind,
        memory: Positive,
    ) -> None:
        self.depth, self.kind, self.memory = depth, kind, memory
        self.activation, self.activation_name = activation_by_name(activation), activation
        self.weight, self.bias = weight_std**2, bias_std**2

    @abstractmethod
    def block(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the kernel [N1, N2] of images [N1, C, H, W] and [N2, C, H, W], all at once."""

    @abstractmethod
    def __str__(self) -> str:
        """Return a short name, for results."""

    @abstractmethod
    def numbers_per_pair(self, x: Tensor) -> int:
        """Return how many numbers a tensor holds for a pair of images like those of ``x``."""

    def __call__(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the kernel float64 [N1, N2] of images [N1, C, H, W] and [N2, C, H, W],
        differentiable once. Raises DdistError where not even one pair fits into ``memory``."""
        rows, columns = self.block_shape(x1, x2)
        chunks1, chunks2 = torch.split(x1, rows), torch.split(x2, columns)
        recompute = torch.is_grad_enabled() and len(chunks1) * len(chunks2) > 1

        def block(a: Tensor, b: Tensor) -> Tensor:
            k: Tensor = _Recomputed.apply(self.block, a, b) if recompute else self.block(a, b)
            return k

        return torch.cat([torch.cat([block(a, b) for b in chunks2], 1) for a in chunks1])

    def block_shape(self, x1: Tensor, x2: Tensor) -> tuple[int, int]:
        """Return how many images of either side a block has: near a square, because what concerns
        one image alone is computed again for each of its blocks."""
        pairs = self.pairs_at_once(x1)
        rows = min(len(x1), max(isqrt(pairs), pairs // len(x2)))
        return rows, min(len(x2), pairs // rows)

    def pairs_at_once(self, x: Tensor) -> int:
        """Return how many pairs of images like those of ``x`` a block holds."""
        # For each layer's gradient the covariance, the product of the variances, the height, both
        # expectations and the tangent kernel are kept; some more are passed through.
        pair = 8 * self.numbers_per_pair(x) * (6 * self.depth + 8)
        if pair > self.memory * 2**20:
            raise DdistError(
                f"One pair of {x.shape[-2]}x{x.shape[-1]} images takes {pair / 2**20:.0f} MiB "
                f"under this kernel, more than kernel.memory={self.memory:g}: raise it, or choose "
                "kernel.pooling=none or a smaller dataset.size."
            )
        return int(self.memory * 2**20) // pair


class _Recomputed(torch.autograd.Function):
    """A block, computed once more for its gradient. torch.utils.checkpoint would leave a graph of
    small objects behind, between which glibc's malloc reuses none of the freed memory (2.5 GB
    for 160 blocks of 1 MB a tensor)."""

    @staticmethod
    def forward(
        ctx: Any, block: Callable[[Tensor, Tensor], Tensor], x1: Tensor, x2: Tensor
    ) -> Tensor:
        ctx.block = block
        ctx.save_for_backward(x1, x2)
        return block(x1, x2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        inputs = [
            x.detach().requires_grad_(is_needed)
            for x, is_needed in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad():
            k = ctx.block(*inputs)
        variables = [x for x in inputs if x.requires_grad]
        gradients = iter(torch.autograd.grad(k, variables, outer))
        return None, *(next(gradients) if x.requires_grad else None for x in inputs)
