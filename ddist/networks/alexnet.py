"""AlexNet: for small images, as in the condensation literature's cross-architecture tables, and as
torchvision has it for ImageNet."""

from typing import Literal

from torch import nn

from ddist.networks.base import ImageShape, Network, require_side
from ddist.networks.layers import MaxPool2x2, first_conv

Layout = Literal["auto", "small", "imagenet"]

IMAGENET_FROM = 224  # pixels of a side from which "auto" is "imagenet"


class AlexNet(Network):
    """``layout`` "small": five convolutions (128, 192, 256, 192, 192) and one linear layer,
    1,872,202 parameters on 3x32x32 with 10 classes, no normalisation, no dropout. "imagenet": that
    of torchvision (Krizhevsky 2014, arXiv 1404.5997) without its dropout, 57,085,780 parameters
    with 20 classes, whose weights fit (:class:`ddist.init.ImageNet`). "auto": that from 224 pixels
    on.

    Raises:
        DdistError: another layout, or images too small for it.
    """

    def __init__(self, num_classes: int, image_shape: ImageShape, layout: Layout) -> None:
        if layout == "auto":
            layout = "imagenet" if min(image_shape[1:]) >= IMAGENET_FROM else "small"
        body = _small(image_shape) if layout == "small" else _imagenet(image_shape)
        super().__init__(body, num_classes, image_shape)
        self.layout = layout


def _small(image_shape: ImageShape) -> nn.Sequential:
    require_side("AlexNet", image_shape, 8)
    return nn.Sequential(
        first_conv(image_shape, 128, kernel=5),
        MaxPool2x2(),
        nn.ReLU(),
        nn.Conv2d(128, 192, 5, padding=2),
        MaxPool2x2(),
        nn.ReLU(),
        nn.Conv2d(192, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 192, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(192, 192, 3, padding=1),
        MaxPool2x2(),
        nn.ReLU(),
    )


def _imagenet(image_shape: ImageShape) -> nn.Sequential:
    """Build all but the last layer of torchvision's AlexNet."""
    require_side("ImageNet's AlexNet", image_shape, 63)
    return nn.Sequential(
        nn.Conv2d(image_shape[0], 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
    )
