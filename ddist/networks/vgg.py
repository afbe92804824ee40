"""VGG-11 (Simonyan & Zisserman 2015) for small images: the convolutions and one linear layer."""

from torch import nn

from ddist.networks import layers
from ddist.networks.base import ImageShape, Network, require_side

# Filters of each convolution; a pooling follows where True.
_FILTERS = (
    (64, True),
    (128, True),
    (256, False),
    (256, True),
    (512, False),
    (512, True),
    (512, False),
    (512, True),
)


class VGG11(Network):
    """Eight 3x3 convolutions with normalisation: 9,231,114 parameters on 3x32x32 with 10 classes.

    torchvision's VGG has batch normalisation or none and three wide linear layers made for 224x224
    images; this is the version that the condensation literature compares on.
    """

    def __init__(self, num_classes: int, image_shape: ImageShape, norm: layers.Norm) -> None:
        if image_shape[1:] != (28, 28):  # which the first convolution pads to 32x32
            require_side("VGG11", image_shape, 32)
        body = nn.Sequential()
        channels = image_shape[0]
        for index, (width, pooled) in enumerate(_FILTERS):
            body.append(
                nn.Conv2d(channels, width, 3, padding=1)
                if index
                else layers.first_conv(image_shape, width, kernel=3)
            )
            body.append(layers.norm(norm, width))
            if pooled:
                body.append(layers.MaxPool2x2())
            body.append(nn.ReLU())
            channels = width
        super().__init__(body, num_classes, image_shape)
