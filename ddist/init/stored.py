"""Known weights, such as the ones an artifact brings along."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import nn

from ddist.init.base import InitialWeights
from ddist.networks.base import Weights


class Given(InitialWeights):
    """Always ``weights`` (by name, not stacked) for the network they belong to; any other network
    starts as ``otherwise()`` has it, which is made only then."""

    single = True

    def __init__(self, weights: Weights, otherwise: Callable[[], InitialWeights]) -> None:
        self.weights = weights
        self._make_otherwise = otherwise

    @cached_property
    def otherwise(self) -> InitialWeights:
        return self._make_otherwise()

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        if not self._fits(network):
            return self.otherwise.draw(network, num, *keys)
        stacked = {}
        for name, parameter in network.named_parameters():
            known = self.weights[name].to(parameter)
            stacked[name] = known.expand(num, *known.shape).clone()
        return stacked

    def held_out(self, network: nn.Module, num: int) -> Weights:
        if not self._fits(network):
            return self.otherwise.held_out(network, num)
        with torch.no_grad():
            return self.draw(network, 1)

    def _fits(self, network: nn.Module) -> bool:
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        return shapes == {name: weight.shape for name, weight in self.weights.items()}
