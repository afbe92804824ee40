"""Multi-formation (Kim et al. 2022, arXiv 2205.14959): f x f training images in one stored image.

A stored image is cut into f x f tiles, and each is enlarged bilinearly to the full size.
"""

import torch.nn.functional as F
from torch import Tensor

from ddist.errors import DdistError


def check_factor(factor: int, image_shape: tuple[int, int, int]) -> None:
    """Raise a DdistError unless the images can be cut into ``factor`` x ``factor`` tiles."""
    if any(side % factor for side in image_shape[1:]):
        height, width = image_shape[1:]
        raise DdistError(
            f"synthetic.factor={factor} must divide the images' sides, which are {height}x{width} "
            "pixels: choose another factor, or resize with dataset.size."
        )


def expand(images: Tensor, factor: int) -> Tensor:
    """Turn stored images [N, C, H, W] into training images [N f^2, C, H, W], the tiles of an image
    row by row. Differentiable."""
    if factor == 1:
        return images
    num, channels, height, width = images.shape
    tiles = images.view(num, channels, factor, height // factor, factor, width // factor)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # [N f^2, C, H / f, W / f]
    return F.interpolate(tiles, size=(height, width), mode="bilinear", align_corners=False)


def compose(images: Tensor, factor: int) -> Tensor:
    """Turn training images [N f^2, C, H, W] into stored ones [N, C, H, W]: each is the mean of f x
    f pixels at a time, in its tile."""
    if factor == 1:
        return images
    channels, height, width = images.shape[1:]
    tiles = F.avg_pool2d(images, factor)
    tiles = tiles.view(-1, factor, factor, channels, height // factor, width // factor)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)
