"""p(theta_0): the distribution of a network's initial weights."""

from abc import ABC, abstractmethod

from torch import nn

from ddist.errors import DdistError
from ddist.networks.base import Weights


class InitialWeights(ABC):
    """Draws initial weights, on the network's device.

    A draw depends on the root seed and its keys alone, so a resumed run meets the same networks as
    one that was never interrupted.
    """

    single: bool = False
    """True where the distribution is one point: every draw is the same network."""
    trained: bool = False
    """True where the networks are trained ones."""
    published: bool = False
    """True where their weights, but for the last layer, are published ones."""
    num_networks: int | None = None
    """Number of different networks to draw from; None: any number."""
    num_held_out: int | None = None
    """Number of those held out; None: any number. (A single point is not counted: it is both.)"""

    def different(self, num: int) -> int:
        """Return how many of ``num`` networks can differ from each other."""
        return 1 if self.single else min(num, self.num_networks or num)

    def check_enough(self, num: int) -> None:
        """Raise a DdistError unless ``num`` different networks can be drawn at once."""
        if self.num_networks is not None and num > self.num_networks and not self.single:
            raise DdistError(
                f"{num} networks are wanted at once, but init.num_networks={self.num_networks}: "
                "pre-train more networks."
            )

    def prepare(self, network: nn.Module) -> None:  # noqa: B027 (most have nothing to do)
        """Train or read the networks that draws for ``network`` are taken from, if any."""

    @abstractmethod
    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        """Draw ``num`` networks, stacked [num, ...], for training; ``keys`` are (rank, step)."""

    @abstractmethod
    def held_out(self, network: nn.Module, num: int) -> Weights:
        """Return ``num`` networks, stacked [num, ...], that training never sees. A distribution of
        a single point returns that point: [1, ...]."""
