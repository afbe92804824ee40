"""p(theta_0): where a network's weights start."""

from ddist.init.base import InitialWeights
from ddist.init.imagenet import ImageNet
from ddist.init.own import Own
from ddist.init.pretrained import Pretrained
from ddist.init.random import Fixed, Random

__all__ = ["Fixed", "ImageNet", "InitialWeights", "Own", "Pretrained", "Random"]
