"""What a teacher is."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ddist.data import RealData
from ddist.data.split import Split
from ddist.init.random import device_of
from ddist.seeding import generator

log = logging.getLogger(__name__)

_AT_ONCE = 250  # images asked at a time
_SAMPLE = 1000  # training images that say how good it is


class Teacher(ABC):
    """A trained classifier of the classes of ``source``, in their order, that is only asked. It is
    trained or read when it is asked for the first time."""

    trains = False
    """True where the network is trained here, and not read as it is."""

    def __init__(self, network: nn.Module, source: RealData) -> None:
        self._network, self.source = network, source

    @abstractmethod
    def load(self, network: nn.Module) -> None:
        """Give ``network`` its weights. Raises DdistError if they cannot be had."""

    def check(self) -> None:  # noqa: B027 (may stay as it is)
        """Raise what :meth:`load` would raise on reading weights, before any work is done."""

    def prepare(self, x: Tensor) -> Tensor:
        """Return the network's input for images ``x`` [B, C, H, W] in training space."""
        return x

    def arrange(self, logits: Tensor) -> Tensor:
        """Put the network's logits [B, K] into the order of the dataset's classes."""
        return logits

    @property
    def members(self) -> Sequence["Teacher"]:
        """The teachers of a committee; of any other, itself alone."""
        return [self]

    @cached_property
    def network(self) -> nn.Module:
        """The network in evaluation mode, on the data's device; its weights have no gradients."""
        network = self._network.to(self.source.device)
        self.load(network)
        self.__dict__["network"] = network.requires_grad_(False).eval()  # _known() asks it
        share, num = self._known()
        log.info("The teacher knows %.1f %% of %d training images.", 100 * share, num)
        return network

    def batch_norms(self) -> list[_BatchNorm]:
        """Return the network's batch normalisation layers that keep running statistics."""
        norms = [m for m in self._network.modules() if isinstance(m, _BatchNorm)]
        return [norm for norm in norms if norm.track_running_stats]

    def logits(self, x: Tensor) -> Tensor:
        """Return logits [B, K], differentiable in the training-space images ``x`` [B, C, H, W]."""
        return self.arrange(self.network(self.prepare(x)))

    def with_inputs(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Return the logits, and for each layer of batch normalisation, in the order of the forward
        pass, its input [B, C, ...] and its running mean and variance [C]."""
        network = self.network  # before the hooks, because loading it makes predictions too
        statistics: list[tuple[Tensor, Tensor, Tensor]] = []

        def note(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert isinstance(norm, _BatchNorm)
            assert norm.running_mean is not None and norm.running_var is not None
            statistics.append((args[0], norm.running_mean, norm.running_var))

        hooks = [norm.register_forward_pre_hook(note) for norm in self.batch_norms()]
        try:
            return self.arrange(network(self.prepare(x))), statistics
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return logits [N, K] of images [N, C, H, W], some at a time, without a graph, on the
        images' device: distillation and evaluation may use different ones."""
        if device_of(self.network) != x.device:
            self.network.to(x.device)
        return torch.cat([self.logits(chunk) for chunk in x.split(_AT_ONCE)])

    def probabilities(self, x: Tensor, temperature: float) -> Tensor:
        """Return softmax(logits / temperature) [N, K], with logits as from :meth:`predict`."""
        return (self.predict(x) / temperature).softmax(1)

    def _known(self) -> tuple[float, int]:
        """Return the share of sampled training images classified correctly, and their number."""
        train: Split = self.source.train
        order = torch.randperm(len(train), generator=generator(self.source.seed, "teacher", "ask"))
        sample = train.take(order[:_SAMPLE].to(train.y.device))
        batches = self.source.batches(sample, _AT_ONCE)
        right = sum(int((self.predict(x).argmax(1) == y).sum()) for x, y in batches)
        return right / len(sample), len(sample)
