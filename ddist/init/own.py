"""The published weights that a network has of its own."""

import torch
from torch import nn

from ddist.init.base import InitialWeights
from ddist.init.random import device_of
from ddist.networks.base import Weights


class Own(InitialWeights):
    """One network: the weights that it was made with (those that are no parameters it has anyway),
    and a new last layer of zeros: an untrained one that prefers no class, as in the setting of
    pre-trained networks of Wang et al. 2018."""

    single = True
    trained = True
    published = True

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        device = device_of(network)
        weights = {}
        for name, parameter in network.named_parameters():
            value = parameter.detach().to(device)
            new = torch.zeros_like(value) if name.startswith("head.") else value
            weights[name] = new.expand(num, *new.shape).clone()
        return weights

    def held_out(self, network: nn.Module, num: int) -> Weights:
        return self.draw(network, 1)
