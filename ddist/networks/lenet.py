"""LeNet (LeCun et al. 1998) with ReLU and max pooling, as in Wang et al. 2018."""

from torch import nn

from ddist.networks.base import ImageShape, Network, require_side
from ddist.networks.layers import MaxPool2x2


class LeNet(Network):
    """conv 6@5x5, pool, conv 16@5x5, pool, 120, 84, classes: 61,706 parameters on 1x28x28.

    Images smaller than 32 pixels are padded by 2 in the first convolution, so that 28x28 gives the
    same feature maps as the original's 32x32.
    """

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        channels, height, width = image_shape
        padding = 2 if min(height, width) < 32 else 0
        require_side("LeNet", image_shape, 12)
        height, width = (_side_after_convolutions(side, padding) for side in (height, width))
        body = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=padding),
            MaxPool2x2(),
            nn.ReLU(),
            nn.Conv2d(6, 16, 5),
            MaxPool2x2(),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        )
        super().__init__(body, num_classes, image_shape)


def _side_after_convolutions(side: int, padding: int) -> int:
    return ((side + 2 * padding - 4) // 2 - 4) // 2
