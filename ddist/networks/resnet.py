"""ResNet-18 (He et al. 2016) for small images."""

from functools import partial

from torch import nn
from torchvision.models import resnet18

from ddist.networks.base import ImageShape, Network, require_side
from ddist.networks.layers import Norm
from ddist.networks.layers import norm as make_norm


class ResNet18(Network):
    """torchvision's, with the stem for small images (3x3, stride 1, no pooling): 11,173,962
    parameters on 3x32x32 with 10 classes."""

    def __init__(self, num_classes: int, image_shape: ImageShape, norm: Norm) -> None:
        require_side("ResNet18", image_shape, 16)
        net = resnet18(norm_layer=partial(make_norm, norm))
        for layer in net.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # residual sums would be overwritten under torch.func
        body = nn.Sequential(
            nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False),
            net.bn1,
            nn.ReLU(),
            net.layer1,
            net.layer2,
            net.layer3,
            net.layer4,
            net.avgpool,
        )
        super().__init__(body, num_classes, image_shape)
