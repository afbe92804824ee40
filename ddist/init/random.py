"""Untrained networks: a new one at every draw, or always the same."""

import torch
from torch import nn

from ddist.init.base import InitialWeights
from ddist.init.schemes import Scheme, draw_weights
from ddist.networks.base import Weights
from ddist.seeding import generator


class Random(InitialWeights):
    """New weights at every draw. Member k comes from its own stream (seed, keys, k): the first
    members do not depend on how many are drawn."""

    def __init__(self, scheme: Scheme, seed: int) -> None:
        self.scheme = scheme
        self.seed = seed

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        return self._members(network, num, "init", *keys)

    def held_out(self, network: nn.Module, num: int) -> Weights:
        return self._members(network, num, "held_out")

    def _members(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        device = device_of(network)
        streams = [generator(self.seed, *keys, k, device=device) for k in range(num)]
        return draw_weights(network, self.scheme, streams)


class Fixed(InitialWeights):
    """The same weights always; the held-out set is that one network."""

    single = True

    def __init__(self, scheme: Scheme, seed: int) -> None:
        self.scheme = scheme
        self.seed = seed

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        stream = generator(self.seed, "fixed", device=device_of(network))
        one = draw_weights(network, self.scheme, [stream])
        return {name: tensor.repeat_interleave(num, 0) for name, tensor in one.items()}

    def held_out(self, network: nn.Module, num: int) -> Weights:
        return self.draw(network, 1)


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
