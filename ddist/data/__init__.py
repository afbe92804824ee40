"""Real data: uint8 tensors on the device, class-balanced batches, invertible normalisation."""

from ddist.data.normalization import Normalization
from ddist.data.real import RealData
from ddist.data.split import Split

__all__ = ["Normalization", "RealData", "Split"]
