"""Expert trajectories: the weights of networks trained on the real images, epoch by epoch."""

from ddist.experts.experts import Trajectories
from ddist.experts.stored import Stored

__all__ = ["Stored", "Trajectories"]
