"""AlexNet for small images, as in the condensation literature's cross-architecture tables."""

from torch import nn

from ddist.networks.base import ImageShape, Network, require_side
from ddist.networks.layers import MaxPool2x2, first_conv


class AlexNet(Network):
    """Five convolutions (128, 192, 256, 192, 192) and one linear layer: 1,872,202 parameters on
    3x32x32 with 10 classes. No normalisation, no dropout."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        require_side("AlexNet", image_shape, 8)
        body = nn.Sequential(
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
        super().__init__(body, num_classes, image_shape)
