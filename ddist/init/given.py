"""Known weights, such as the ones an artifact brings along."""

import torch
from torch import nn

from ddist.errors import DdistError
from ddist.init.base import InitialWeights
from ddist.networks.base import Weights


class Given(InitialWeights):
    """Always ``weights`` (by name, not stacked); p(theta_0) is this one point."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        stacked = {}
        for name, parameter in network.named_parameters():
            if name not in self.weights or self.weights[name].shape != parameter.shape:
                raise DdistError(
                    f"The distilled set's initial weights belong to another network ({name} does "
                    "not fit): leave network as it is, or choose init=random."
                )
            known = self.weights[name].to(parameter)
            stacked[name] = known.expand(num, *known.shape).clone()
        return stacked

    def held_out(self, network: nn.Module, num: int) -> Weights:
        with torch.no_grad():
            return self.draw(network, 1)
