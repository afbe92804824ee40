"""AlexCifarNet: the small AlexNet for CIFAR-10 (cuda-convnet's, as in Wang et al. 2018)."""

from torch import nn

from ddist.networks.base import ImageShape, Network, require_side
from ddist.networks.layers import LocalResponseNorm


class AlexCifarNet(Network):
    """Two 5x5 convolutions of 64 with max pooling and local response normalisation, then 384, 192,
    classes: 1,756,426 parameters on 3x32x32 with 10 classes. No dropout."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        channels, height, width = image_shape
        require_side("AlexCifarNet", image_shape, 4)
        body = nn.Sequential(
            nn.Conv2d(channels, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            _response_norm(),
            nn.Conv2d(64, 64, 5, padding=2),
            nn.ReLU(),
            _response_norm(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Flatten(),
            nn.Linear(64 * _quarter(height) * _quarter(width), 384),
            nn.ReLU(),
            nn.Linear(384, 192),
            nn.ReLU(),
        )
        super().__init__(body, num_classes, image_shape)


def _response_norm() -> LocalResponseNorm:
    return LocalResponseNorm(4, alpha=0.001 / 9.0, beta=0.75, k=1.0)


def _quarter(side: int) -> int:
    return (side + 3) // 4
