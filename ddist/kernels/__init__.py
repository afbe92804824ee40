"""Kernels of infinitely wide networks, in closed form."""

from ddist.kernels.base import Kernel
from ddist.kernels.connected import FullyConnected
from ddist.kernels.convolutional import Convolutional

__all__ = ["Convolutional", "FullyConnected", "Kernel"]
