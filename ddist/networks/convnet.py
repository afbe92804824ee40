"""The ConvNet of the condensation literature (Gidaris & Komodakis 2018, Zhao et al. 2021)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ddist.errors import DdistError
from ddist.networks import layers
from ddist.networks.base import ImageShape, Network, require_side
from ddist.settings.ranges import PositiveInt


class ConvNet(Network):
    """``depth`` blocks of conv 3x3, normalisation, activation and 2x2 pooling.

    ``width`` is the number of filters of every block, or one number per block. The standard
    ConvNet-3 (width 128, instance, average pooling) has 320,010 parameters on 3x32x32 with 10
    classes. 28x28 images are padded to 32x32 by the first convolution (padding 3).
    """

    def __init__(
        self,
        num_classes: int,
        image_shape: ImageShape,
        depth: PositiveInt,
        width: PositiveInt | Sequence[PositiveInt],
        norm: layers.Norm,
        pooling: layers.Pooling,
        activation: layers.Activation,
    ) -> None:
        widths = [width] * depth if isinstance(width, int) else list(width)
        if len(widths) != depth:
            raise DdistError(
                f"network.width must be one number or network.depth={depth} numbers, "
                f"but {len(widths)} came: {widths}."
            )
        if pooling != "none":
            require_side(f"ConvNet of depth {depth}", image_shape, 2**depth)
        blocks = [
            nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 3, padding=1),
                layers.norm(norm, fan_out),
                layers.activation(activation),
                layers.pooling(pooling),
            )
            for fan_in, fan_out in pairwise([image_shape[0], *widths])
        ]
        blocks[0][0] = layers.first_conv(image_shape, widths[0], kernel=3)
        super().__init__(nn.Sequential(*blocks), num_classes, image_shape)
