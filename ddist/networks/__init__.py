"""Networks: students, teachers and everything else that classifies."""

from ddist.networks.alexcifarnet import AlexCifarNet
from ddist.networks.alexnet import AlexNet
from ddist.networks.backbone import Backbone
from ddist.networks.base import ImageShape, Network, Weights
from ddist.networks.convnet import ConvNet
from ddist.networks.features import classify, embed
from ddist.networks.lenet import LeNet
from ddist.networks.mlp import MLP
from ddist.networks.resnet import ResNet18
from ddist.networks.timm import Timm
from ddist.networks.vgg import VGG11

__all__ = [
    "MLP",
    "VGG11",
    "AlexCifarNet",
    "AlexNet",
    "Backbone",
    "ConvNet",
    "ImageShape",
    "LeNet",
    "Network",
    "ResNet18",
    "Timm",
    "Weights",
    "classify",
    "embed",
]
