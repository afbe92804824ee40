"""Expectations of activations of Gaussian pre-activations, in closed form.

For u and v with mean 0, variances p and q and covariance k, each gives the covariance of what the
activation phi puts out, E[phi(u) phi(v)], and that of its slopes, E[phi'(u) phi'(v)].
"""

from abc import ABC, abstractmethod
from math import pi
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_MIN_VARIANCE = 1e-150  # a variance of less is taken to be as large
_SAME = 1 - 2.0**-45
"""Factor of the product of the variances, so that an image is the same as itself though
its covariance was summed in another order than its variance: the height below is exactly 0."""


class Activation(ABC):
    """The expectations of one activation; ``p`` and ``q`` broadcast to the shape of ``k``."""

    @abstractmethod
    def variance(self, p: Tensor) -> Tensor:
        """Return E[phi(u)^2]."""

    @abstractmethod
    def covariances(self, k: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[phi(u) phi(v)] and E[phi'(u) phi'(v)]."""


class Relu(Activation):
    """The arc-cosine kernels of degree 1 and 0 (Cho & Saul 2009):

    E[phi phi] = sqrt(p q) (sin t + (pi - t) cos t) / 2 pi,   E[phi' phi'] = (pi - t) / 2 pi,
    cos t = k / sqrt(p q)
    """

    def variance(self, p: Tensor) -> Tensor:
        return p / 2

    def covariances(self, k: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        product = p.clamp_min(_MIN_VARIANCE) * (_SAME * q.clamp_min(_MIN_VARIANCE))
        expectations: tuple[Tensor, Tensor] = _ArcCosine.apply(k, product)
        return expectations


class Erf(Activation):
    """The error function (Williams 1997), a sigmoid:

    E[phi phi] = 2 / pi asin z,   E[phi' phi'] = 4 / pi ((1 + 2 p) (1 + 2 q) - 4 k^2)^(-1/2),
    z = 2 k ((1 + 2 p) (1 + 2 q))^(-1/2)
    """

    def variance(self, p: Tensor) -> Tensor:
        return 2 / pi * torch.asin(2 * p / (1 + 2 * p))

    def covariances(self, k: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        scale = (1 + 2 * p).rsqrt() * (1 + 2 * q).rsqrt()
        z = 2 * k * scale
        return 2 / pi * torch.asin(z), 4 / pi * scale * (1 - z.square()).rsqrt()


ActivationName = Literal["relu", "erf"]


def activation_by_name(name: ActivationName) -> Activation:
    return Relu() if name == "relu" else Erf()


class _ArcCosine(torch.autograd.Function):
    """The kernels of :class:`Relu` as functions of k and v = p q. By hand, because autograd
    multiplies infinity by zero where an image meets itself, and would keep twice as many tensors.

    With h = sqrt(v - k^2) and D = E[phi' phi'] the angle is t = atan2(h, k), the first expectation
    h / 2 pi + k D, and its derivatives are D in k and h / 4 pi v in v; those of D are 1 / 2 pi h in
    k and -k / 4 pi h v in v.
    """

    @staticmethod
    def forward(ctx: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        height = torch.addcmul(v, k, k, value=-1).clamp_min_(0).sqrt_()
        slopes = torch.atan2(height, k).mul_(-0.5 / pi).add_(0.5)
        ctx.save_for_backward(k, v, height, slopes)
        return torch.addcmul(height / (2 * pi), k, slopes), slopes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, outer_slopes: Tensor) -> tuple[Tensor, Tensor | None]:
        k, v, height, slopes = ctx.saved_tensors
        # D has no derivative where the angle is 0 or straight, nor where an image is all 0.
        turn = (outer_slopes / height).masked_fill_(height < _MIN_VARIANCE**0.4, 0).div_(2 * pi)
        in_k = torch.addcmul(turn, outer, slopes)
        if not ctx.needs_input_grad[1]:
            return in_k, None
        return in_k, (outer * height / (2 * pi)).addcmul_(turn, k, value=-1).div_(v).div_(2)
