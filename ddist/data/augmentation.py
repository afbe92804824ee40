"""Augmentation of real batches, batched on the device and drawn from an explicit generator."""

import torch
from torch import Tensor


def crop_flip(x: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    """Crop at random after reflecting ``pad`` pixels at each border, then mirror half of the time.

    This is the real-batch augmentation of Dataset Distillation (Wang et al., 2018) on CIFAR-10:
    Pad(4, reflect), RandomCrop(32), RandomHorizontalFlip. Each image [C, H, W] of ``x``
    [N, C, H, W] (any dtype) gets its own crop and flip. Only gathers pixels: nothing is padded.
    """
    num, channels, height, width = x.shape

    def draw(high: int) -> Tensor:  # [N, 1]
        number = torch.randint(high, (num, 1), generator=generator, device=generator.device)
        return number.to(x.device)

    rows = _reflect(draw(2 * pad + 1) - pad + torch.arange(height, device=x.device), height)
    columns = _reflect(draw(2 * pad + 1) - pad + torch.arange(width, device=x.device), width)
    columns = torch.where(draw(2) == 1, columns.flip(1), columns)
    image = torch.arange(num, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[:, None, None]
    return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _reflect(index: Tensor, size: int) -> Tensor:
    """Mirror indices beyond [0, size) at the border pixel, which is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
