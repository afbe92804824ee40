"""Images stored as small networks from places to colours (DDiF, Shin et al. 2025, arXiv 2503.04835;
sines of Sitzmann et al. 2020, arXiv 2006.09661)."""

from math import isqrt

import torch
from torch import Tensor

from ddist.artifact.codes.base import Code, Tensors, check_room
from ddist.seeding import generator
from ddist.settings.ranges import Positive, PositiveInt


class Field(Code):
    """x(p) = W_3 sin(W_2 sin(W_1 p + c_1) + c_2) + c_3 at the places p in [-1, 1]^2 of the pixels:
    one network of its own for each image, of the width w that its bytes allow.

    It starts where ``fit_steps`` steps of Adam leave it that lessen the mean square error.

    Args:
        frequency: W_1 starts uniform within this, the radians between the middle and an edge.
        fit_steps: of the start.
    """

    name = "field"

    def __init__(self, *, frequency: Positive, fit_steps: PositiveInt) -> None:
        self.frequency, self.fit_steps = frequency, fit_steps

    def encode(self, images: Tensor, num_bytes: int, sample: Tensor) -> dict[str, Tensor]:
        num, channels = images.shape[:2]
        width = widest(num_bytes // (images.element_size() * num), channels)
        check_room(width, num_bytes / num)
        codes = {k: v.to(images) for k, v in self.first(num, channels, width).items()}
        with torch.enable_grad():
            learned = [value.requires_grad_() for value in codes.values()]
            optimizer = torch.optim.Adam(learned, lr=1e-2)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.fit_steps)
            for _ in range(self.fit_steps):
                missed = (self.decode(codes, images.shape[1:]) - images).square().mean((1, 2, 3))
                gradients = torch.autograd.grad(missed.sum(), learned)
                for value, gradient in zip(learned, gradients, strict=True):
                    value.grad = gradient
                optimizer.step()
                schedule.step()
        return {name: value.detach() for name, value in codes.items()}

    def first(self, num: int, channels: int, width: int) -> dict[str, Tensor]:
        """Draw the weights of ``num`` networks, uniformly: of W_2 within sqrt(6 / w), which keeps
        the variance of what the sines see."""
        stream = generator(0, "field")

        def within(most: float, *shape: int) -> Tensor:
            return most * (2 * torch.rand(num, *shape, generator=stream) - 1)

        edge = (6 / width) ** 0.5
        return {
            "w1": within(self.frequency, 2, width), "c1": within(torch.pi, 1, width),
            "w2": within(edge, width, width), "c2": within(edge, 1, width),
            "w3": within(edge, width, channels), "c3": torch.zeros(num, 1, channels),
        }  # fmt: skip

    @staticmethod
    def decode(codes: Tensors, image_shape: tuple[int, ...]) -> Tensor:
        height, width = image_shape[1:]
        w1 = codes["w1"]
        rows, columns = (
            (torch.arange(side, device=w1.device, dtype=w1.dtype) + 0.5) * (2 / side) - 1
            for side in (height, width)
        )
        places = torch.cartesian_prod(rows, columns)  # [H W, 2]
        hidden = (places @ w1 + codes["c1"]).sin()  # [N, H W, w]
        hidden = (hidden @ codes["w2"] + codes["c2"]).sin()
        colours = hidden @ codes["w3"] + codes["c3"]
        return colours.transpose(1, 2).reshape(len(colours), -1, height, width)


def widest(numbers: int, channels: int) -> int:
    """Return the largest w whose network has at most ``numbers`` weights, w^2 + (4 + C) w + C; 0
    where there is none."""
    linear = 4 + channels
    return max(0, (isqrt(max(0, linear**2 + 4 * (numbers - channels))) - linear) // 2)
