"""Expert trajectories: the weights of networks trained on the real images, epoch by epoch."""

from ddist.trajectories.stored import Stored
from ddist.trajectories.trajectories import Trajectories

__all__ = ["Stored", "Trajectories"]
