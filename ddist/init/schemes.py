"""How fresh weights are drawn, layer by layer, from an explicit generator."""

from copy import deepcopy
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from ddist.errors import DdistError
from ddist.networks.base import Weights

Scheme = Literal["xavier_normal", "default"]

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORM = (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def draw_weights(network: nn.Module, scheme: Scheme, generators: list[torch.Generator]) -> Weights:
    """Draw fresh weights, one set per generator, stacked [K, ...]; ``network`` is not touched.

    ``xavier_normal``: Glorot normal with gain 1, biases 0 (Wang et al. 2018).
    ``default``: the distribution of torch's own ``reset_parameters``.
    Normalisation layers start as the identity. Generators must live on the network's device.
    """
    stacked = {
        name: torch.empty((len(generators), *p.shape), dtype=p.dtype, device=p.device)
        for name, p in network.named_parameters()
    }
    for k, generator in enumerate(generators):
        member = {name: tensor[k] for name, tensor in stacked.items()}
        _fill(network, "", member, scheme, generator)
    return stacked


def _fill(
    module: nn.Module, prefix: str, out: Weights, scheme: str, generator: torch.Generator
) -> None:
    """Fill ``out`` for ``module`` and its children, whose names start with ``prefix``."""
    if next(module.parameters(), None) is None:
        return  # such as what is published and stays as it is
    own = {name: out[prefix + name] for name, _ in module.named_parameters(recurse=False)}
    if isinstance(module, _LINEAR):
        _fill_linear(own["weight"], own.get("bias"), scheme, generator)
    elif isinstance(module, _NORM):
        if own:
            own["weight"].fill_(1.0)
            own["bias"].zero_()
    elif hasattr(module, "reset_parameters"):
        _fill_by_reset(module, prefix, out, generator)
        return
    elif own:
        raise DdistError(
            f"Fresh weights cannot be drawn for {type(module).__name__} ({prefix}{next(iter(own))})"
            ": give the module a reset_parameters() method."
        )
    for name, child in module.named_children():
        _fill(child, f"{prefix}{name}.", out, scheme, generator)


def _fill_linear(
    weight: Tensor, bias: Tensor | None, scheme: str, generator: torch.Generator
) -> None:
    if scheme == "xavier_normal":
        nn.init.xavier_normal_(weight, generator=generator)
        if bias is not None:
            bias.zero_()
        return
    nn.init.kaiming_uniform_(weight, a=sqrt(5), generator=generator)
    if bias is not None:
        bound = 1 / sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound, generator=generator)


def _fill_by_reset(
    module: nn.Module, prefix: str, out: Weights, generator: torch.Generator
) -> None:
    # The module knows its own distribution but draws from torch's global generator: lend it one,
    # seeded from the stream, and put the global one back.
    fresh = deepcopy(module)
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    devices = [generator.device] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(seed))
        fresh.reset_parameters()  # type: ignore[operator]
    for name, parameter in fresh.named_parameters():
        out[prefix + name].copy_(parameter.detach())
