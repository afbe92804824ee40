"""The kernels of convolutional networks."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ddist.errors import DdistError
from ddist.kernels.base import Kernel

Pooling = Literal["none", "blocks", "global"]
Axes = tuple[tuple[int, ...], tuple[int, ...]]

# The dimensions of height and of width: of one position, or of one in each of two images.
ONE: Axes = ((0,), (1,))
TWO: Axes = ((0, 1), (2, 3))

_CPU_NUMBERS = 2**17  # numbers of a tensor in one block on a CPU, which its caches hold


class Convolutional(Kernel):
    """``depth`` blocks of a 3x3 convolution (zeros around the image) and an activation, and a dense
    layer on all positions at the end (Novak et al. 2019; Arora et al. 2019). With A the mean over
    the 3x3 windows around both positions (zeros count), s^2 = weight_std^2 and b^2 = bias_std^2,
    for C channels and positions i of x and j of x':

        S_0(i, j) = <x_i, x'_j> / C             D_0 = 0
        K_l = s^2 A S_(l-1) + b^2               T_l = K_l + s^2 A D_(l-1)
        S_l = E[phi(u) phi(v)]                  D_l = T_l E[phi'(u) phi'(v)],   (u, v) ~ N(0, K_l)
        K   = s^2 mean_i S_depth(i, i) + b^2    T   = K + s^2 mean_i D_depth(i, i)

    "nngp" is K, "ntk" T. Without pooling only i = j matters: H W numbers for each pair of images.

    Args:
        pooling: "none"; "blocks", the mean over 2x2 positions after each activation, as in the
            ConvNet of Nguyen et al. (2021); or "global", the mean over all positions before the
            dense layer. Both need every i and j, (H W)^2 numbers for each pair of images.
        common: of :class:`ddist.kernels.base.Kernel`.
    """

    def __init__(self, *, pooling: Pooling, **common: Any) -> None:
        super().__init__(**common)
        self.pooling = pooling

    def numbers_per_pair(self, x: Tensor) -> int:
        positions = x.shape[-2] * x.shape[-1]
        if self.pooling == "none":
            return positions
        # Where covariances are pooled, a pair comes with those within each of its images.
        return positions**2 * (3 if self.pooling == "blocks" else 1)

    def pairs_at_once(self, x: Tensor) -> int:
        pairs = super().pairs_at_once(x)
        if x.device.type == "cpu":
            pairs = min(pairs, max(1, _CPU_NUMBERS // self.numbers_per_pair(x)))
        return pairs

    def block(self, x1: Tensor, x2: Tensor) -> Tensor:
        self.check_side(x1)
        axes = ONE if self.pooling == "none" else TWO
        within_axes = TWO if self.pooling == "blocks" else ONE
        # Positions come first, so that windows are sums of large blocks of memory.
        maps = [x.permute(2, 3, 0, 1).double() * x.shape[1] ** -0.5 for x in (x1, x2)]
        k = torch.einsum("hwnc,hwmc->hwnm" if axes is ONE else "hwnc,uvmc->huwvnm", *maps)
        within_pairs = "hwnc,hwnc->hwn" if within_axes is ONE else "hwnc,uvnc->huwvn"
        # Covariances of the positions within one image.
        within = [torch.einsum(within_pairs, x, x) for x in maps]
        tangent = None  # T, and behind an activation D
        for _ in range(self.depth):
            k = self.convolve(k, axes).add_(self.bias)
            within = [self.convolve(k_xx, within_axes).add_(self.bias) for k_xx in within]
            if self.kind == "ntk":
                tangent = k if tangent is None else self.convolve(tangent, axes).add_(k)
            p, q = (variances(k_xx, within_axes) for k_xx in within)
            k, slopes = self.activation.covariances(k, *paired(p[..., None], q[..., None, :], axes))
            within = [
                self.activated(k_xx, v, within_axes) for k_xx, v in zip(within, (p, q), strict=True)
            ]
            tangent = None if tangent is None else tangent * slopes
            if self.pooling == "blocks":
                k, *within = (pool(a) for a in (k, *within))
                tangent = None if tangent is None else pool(tangent)
        k = self.weight * self.read(k) + self.bias
        return k if tangent is None else k + self.weight * self.read(tangent)

    def convolve(self, a: Tensor, axes: Axes) -> Tensor:
        """Return s^2 A a: what a convolution makes of covariances, but for the bias."""
        convolved: Tensor = _Window.apply(a, axes, self.weight / 9)
        return convolved

    def activated(self, k_xx: Tensor, p: Tensor, axes: Axes) -> Tensor:
        """Return the covariances within images behind the activation; ``p`` are the variances
        [H, W, N]."""
        if axes is ONE:
            return self.activation.variance(k_xx)
        return self.activation.covariances(k_xx, *paired(p, p, axes))[0]

    def read(self, a: Tensor) -> Tensor:
        """Return the mean [N1, N2] over positions: over all of them, or over i = j."""
        if self.pooling == "blocks":
            a = variances(a, TWO)
        return a.mean((0, 1, 2, 3) if self.pooling == "global" else (0, 1))

    def __str__(self) -> str:
        pooled = "" if self.pooling == "none" else f" {self.pooling}"
        return f"conv{self.depth}{pooled} {self.activation_name} {self.kind}"

    def check_side(self, x: Tensor) -> None:
        """Raise a DdistError where nothing is left of an image that is halved ``depth`` times."""
        height, width = x.shape[-2:]
        if self.pooling == "blocks" and min(height, width) < 2**self.depth:
            raise DdistError(
                f"kernel.pooling=blocks halves images, of {height}x{width} here, as often as "
                f"kernel.depth={self.depth} says: choose a smaller depth or larger images."
            )


def variances(k_xx: Tensor, axes: Axes) -> Tensor:
    """Return the variances of one position [H, W, ...] among the covariances of any two [H, H, W,
    W, ...]."""
    return k_xx if axes is ONE else torch.einsum("hhww...->hw...", k_xx)


def paired(p: Tensor, q: Tensor, axes: Axes) -> tuple[Tensor, Tensor]:
    """Return the variances [H, W, ...] at the first and at the second of the positions that are
    paired."""
    return (p, q) if axes is ONE else (p[:, None, :, None], q[None, :, None])


def pool(a: Tensor) -> Tensor:
    """Return the means over 2x2 positions in both images, [H, H, W, W, ...] to half of each; an odd
    last row or column is left out."""
    height, width = a.shape[0] // 2, a.shape[2] // 2
    a = a[: 2 * height, : 2 * height, : 2 * width, : 2 * width]
    return a.reshape(height, 2, height, 2, width, 2, width, 2, *a.shape[4:]).mean((1, 3, 5, 7))


class _Window(torch.autograd.Function):
    """The sum over 3x3 windows times ``scale``, which is its own transpose."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, axes: Axes, scale: float) -> Tensor:
        ctx.axes, ctx.scale = axes, scale
        return window_sum(a, axes).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        return window_sum(outer, ctx.axes).mul_(ctx.scale), None, None


def window_sum(a: Tensor, axes: Axes) -> Tensor:
    """Return the sums of ``a`` over rows, then columns, that are one step apart at most, in step
    along all of ``axes[0]``, then ``axes[1]``; zeros lie beyond."""
    for dims in axes:
        low = tuple(slice(None, -1 if d in dims else None) for d in range(max(dims) + 1))
        high = tuple(slice(1 if d in dims else None, None) for d in range(max(dims) + 1))
        total = a.clone()
        total[high] += a[low]
        total[low] += a[high]
        a = total
    return a
