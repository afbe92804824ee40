"""A plain multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from ddist.networks.base import ImageShape, Network
from ddist.networks.layers import Activation
from ddist.networks.layers import activation as make_activation
from ddist.settings.ranges import PositiveInt


class MLP(Network):
    """Fully connected layers of the given ``widths``; no widths make it linear in the pixels."""

    def __init__(
        self,
        num_classes: int,
        image_shape: ImageShape,
        widths: Sequence[PositiveInt],
        activation: Activation,
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise([prod(image_shape), *widths]):
            layers += [nn.Linear(fan_in, fan_out), make_activation(activation)]
        super().__init__(nn.Sequential(*layers), num_classes, image_shape)
