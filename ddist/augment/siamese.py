"""Differentiable siamese augmentation (DSA; Zhao and Bilen 2021, arXiv 2102.08259).

"Siamese": the real and the synthetic images of a class are transformed by the same operation with
the same random numbers, so that what they are compared by stays comparable. "Differentiable": the
synthetic images learn through it.

The operations take images x [N, C, H, W] and each image's random numbers u [N, 3], uniform in
[0, 1), and return [N, C, H, W] of the dtype of x. None of them looks at other images of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.augment.sampling import bilinear
from ddist.settings.ranges import NonNegative, Positive, Share

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]


@dataclass(frozen=True)
class Draw:
    """One operation and its random numbers for each of G groups of images.

    ``operation``: int64 [G], the index into the strategy; on the CPU, where it is branched on.
    ``uniform``: float [G, 3] in [0, 1).
    """

    operation: Tensor
    uniform: Tensor


class Siamese:
    """One random operation per group of images, with one set of random numbers per group.

    An empty ``strategy`` is the identity and consumes no random numbers.

    Args:
        strategy: the operations to draw from, out of color, crop, cutout, flip, scale and rotate.
        flip: False removes flip from the strategy, for images whose mirror image is another thing.
        prob_flip: of mirroring an image where flip is drawn.
        ratio_scale: r, each axis is scaled by a factor in [1/r, r).
        ratio_rotate: the largest angle, in degrees, either way.
        ratio_crop_pad: the largest shift, as a share of the side, either way.
        ratio_cutout: the side of the square that is cut out, as a share of the image's.
        brightness, saturation, contrast: see :func:`color`.
    """

    def __init__(
        self,
        *,
        strategy: Sequence[Operation],
        flip: bool,
        prob_flip: Share,
        ratio_scale: Positive,
        ratio_rotate: NonNegative,
        ratio_crop_pad: Share,
        ratio_cutout: Share,
        brightness: NonNegative,
        saturation: NonNegative,
        contrast: NonNegative,
    ) -> None:
        known: dict[str, partial[Tensor]] = {
            "color": partial(
                color, brightness=brightness, saturation=saturation, contrast=contrast
            ),
            "crop": partial(crop, ratio=ratio_crop_pad),
            "cutout": partial(cutout, ratio=ratio_cutout),
            "flip": partial(mirror, probability=prob_flip),
            "scale": partial(scale, ratio=ratio_scale),
            "rotate": partial(rotate, degrees=ratio_rotate),
        }
        self.strategy = tuple(name for name in strategy if flip or name != "flip")
        self._operations = [known[name] for name in self.strategy]

    def __repr__(self) -> str:
        """Return all that it does, for the signatures of what is made with it."""
        return f"Siamese({[(o.func.__name__, o.keywords) for o in self._operations]})"

    def draw(self, num: int, generator: torch.Generator) -> Draw:
        """Draw one operation and its random numbers for each of ``num`` groups."""
        return self._draw(num, num, generator)

    def draw_for_batch(self, num: int, generator: torch.Generator) -> Draw:
        """Draw one operation for a batch of ``num`` images, each with random numbers of its own: as
        the papers train networks."""
        return self._draw(1, num, generator)

    def apply(self, x: Tensor, draw: Draw, group: Tensor) -> Tensor:
        """Transform float images ``x`` [N, C, H, W], image i by row ``group[i]`` of
        ``draw``. Differentiable in ``x``, twice.

        ``group``: int64 [N]. On the CPU nothing waits for an accelerator's work.
        """
        if not self._operations:
            return x
        uniform = draw.uniform.to(x.device)[group.to(x.device)]
        first = int(draw.operation[0])
        if bool((draw.operation == first).all()):
            return self._operations[first](x, uniform)

        # Sorted by operation, transformed group by group, and put back.
        operation, order = torch.sort(draw.operation[group.cpu()])
        present, counts = torch.unique_consecutive(operation, return_counts=True)
        sizes, there, back = counts.tolist(), order.to(x.device), order.argsort().to(x.device)
        groups = zip(
            present.tolist(),
            x.index_select(0, there).split(sizes),
            uniform.index_select(0, there).split(sizes),
            strict=True,
        )
        done = [self._operations[index](images, numbers) for index, images, numbers in groups]
        return torch.cat(done).index_select(0, back)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Transform the images ``x`` [N, C, H, W] as :meth:`draw_for_batch` says."""
        return self.apply(x, self.draw_for_batch(len(x), generator), torch.arange(len(x)))

    def _draw(self, num_operations: int, num: int, generator: torch.Generator) -> Draw:
        """Draw ``num`` rows of random numbers; of operations as many, or one for all of them."""
        if not self._operations:
            return Draw(torch.zeros(num, dtype=torch.int64), torch.zeros(num, 3))
        device, choices = generator.device, len(self._operations)
        operation = torch.randint(choices, (num_operations,), generator=generator, device=device)
        uniform = torch.rand(num, 3, generator=generator, device=device)
        return Draw(operation.cpu().expand(num), uniform)


def color(x: Tensor, u: Tensor, *, brightness: float, saturation: float, contrast: float) -> Tensor:
    """Change the colours. Brightness: x + (u_0 - 1/2) brightness. Saturation: (x - m) u_1
    saturation + m with the mean m over channels, which leaves grey images as they are. Contrast: (x
    - m) (u_2 + contrast) + m with the mean m over the image."""
    u = u.to(x.dtype)[:, :, None, None, None]
    x = x + (u[:, 0] - 0.5) * brightness
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (u[:, 1] * saturation) + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (u[:, 2] + contrast) + mean


def crop(x: Tensor, u: Tensor, *, ratio: float) -> Tensor:
    """Shift by whole pixels, uniform in [-p, p] with p = ``ratio`` of the side, rounded: u_0
    along rows, u_1 along columns. Zeros enter."""
    height, width = x.shape[2:]
    rows, rows_inside = _shifted(u[:, 0], height, _rounded(ratio * height))
    columns, columns_inside = _shifted(u[:, 1], width, _rounded(ratio * width))
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # [N, H * W]
    shifted = x.flatten(2).gather(2, pixels[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
    inside = rows_inside[:, :, None] & columns_inside[:, None, :]
    return shifted.masked_fill(~inside[:, None], 0)


def _shifted(u: Tensor, size: int, most: int) -> tuple[Tensor, Tensor]:
    """Return for each image and place along an axis: the index to read there, and whether it
    exists; both [N, size]."""
    shift = _integer(u, 2 * most + 1) - most
    index = shift[:, None] + torch.arange(size, device=u.device)
    return index.clamp(0, size - 1), (index >= 0) & (index < size)


def cutout(x: Tensor, u: Tensor, *, ratio: float) -> Tensor:
    """Write zeros into a rectangle whose sides are ``ratio`` of the image's, rounded, and clipped
    at the borders. Its centre (u_0 along rows, u_1 along columns) is uniform: any pixel for an odd
    side, any edge between pixels or at the border for an even one."""
    rows, columns = (
        _covered(u[:, axis], size, _rounded(ratio * size)) for axis, size in enumerate(x.shape[2:])
    )
    hole = rows[:, :, None] & columns[:, None, :]
    return x.masked_fill(hole[:, None], 0)


def _covered(u: Tensor, size: int, side: int) -> Tensor:
    """Tell which places along an axis are cut out: [N, size]."""
    first = _integer(u, size + 1 - side % 2) - side // 2
    place = torch.arange(size, device=u.device) - first[:, None]
    return (place >= 0) & (place < side)


def mirror(x: Tensor, u: Tensor, *, probability: float) -> Tensor:
    """Exchange left and right where u_0 < ``probability``."""
    return torch.where((u[:, 0] < probability)[:, None, None, None], x.flip(3), x)


def scale(x: Tensor, u: Tensor, *, ratio: float) -> Tensor:
    """Scale bilinearly about the centre: what stood s times as far from it comes here, with s in
    [1/ratio, ratio), of u_0 along x and of u_1 along y. Zeros enter."""
    factors = u[:, :2] * (ratio - 1 / ratio) + 1 / ratio
    return _resample(x, torch.diag_embed(factors))


def rotate(x: Tensor, u: Tensor, *, degrees: float) -> Tensor:
    """Turn bilinearly about the centre, counterclockwise by 2 (u_0 - 1/2) ``degrees``. Zeros
    enter."""
    height, width = x.shape[2:]
    angle = torch.deg2rad((u[:, 0] - 0.5) * 2 * degrees)
    cos, sin = angle.cos(), angle.sin()
    # Both axes are measured from -1 to 1: whatever the shape, pixels turn on circles.
    rows = [
        torch.stack([cos, -sin * height / width], 1),
        torch.stack([sin * width / height, cos], 1),
    ]
    return _resample(x, torch.stack(rows, 1))


def _resample(x: Tensor, matrix: Tensor) -> Tensor:
    """Read ``x`` at linearly transformed places: ``matrix`` [N, 2, 2] acts on (x, y), each from -1
    to 1. In single precision at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    theta = F.pad(matrix.to(dtype), (0, 1))  # no translation
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return bilinear(x.to(dtype), grid).to(x.dtype)


def _integer(u: Tensor, high: int) -> Tensor:
    """Return uniform integers in [0, high), int64; for ``u`` below 1 none rounds to ``high``."""
    return (u * high).long()


def _rounded(length: float) -> int:
    return int(length + 0.5)
