"""K networks of one architecture: computed in one stacked call, or one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from ddist.errors import DdistError
from ddist.networks.base import Weights
from ddist.settings.ranges import Precision as Precision

Stacked = bool | Literal["auto"]

IMAGES_AT_ONCE = 8192
"""Most images (networks times batch) in one stacked call: bounds the memory of activations."""

_SMALL_BATCH = 32
_FEW_FILTER_WEIGHTS = 100_000


def num_members(weights: Weights) -> int:
    """Return K of stacked weights."""
    return len(next(iter(weights.values())))


def member(weights: Weights, k: int) -> Weights:
    """Return network k of stacked weights, without the leading dimension (a view)."""
    return {name: tensor[k] for name, tensor in weights.items()}


def groups(weights: Weights, batch_size: int) -> Iterator[slice]:
    """Yield slices of as many members as fit into one stacked call on ``batch_size`` images."""
    step = max(1, IMAGES_AT_ONCE // max(1, batch_size))
    for start in range(0, num_members(weights), step):
        yield slice(start, min(start + step, num_members(weights)))


def singles(weights: Weights) -> list[slice]:
    """Return a slice for each member by itself."""
    return [slice(k, k + 1) for k in range(num_members(weights))]


def autocast(precision: Precision, device: str) -> torch.autocast:
    """Set mixed or full precision within the block. Weights are cast at each use, because a cached
    cast could outlive a change of them."""
    mixed = precision == "bf16-mixed"
    return torch.autocast(device, torch.bfloat16, enabled=mixed, cache_enabled=False)


def forward_members(network: nn.Module, weights: Weights, x: Tensor, x_dim: int | None) -> Tensor:
    """Return logits [K, N, C] of stacked ``weights``: on common images [N, ...] if ``x_dim`` is
    None, on each network's own [K, N, ...] if it is 0."""

    def forward(one: Weights, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, one, (images,))
        return logits

    stacked: Tensor = vmap(forward, in_dims=(0, x_dim), randomness="different")(weights, x)
    return stacked


def keeps_statistics(network: nn.Module) -> bool:
    """Tell whether the network has batch normalisation with running statistics."""
    return any(isinstance(m, _BatchNorm) and m.track_running_stats for m in network.modules())


def choose_stacked(
    network: nn.Module,
    stacked: Stacked,
    batch_size: int,
    device: str,
    precision: Precision = "32-true",
) -> bool:
    """Tell whether to compute stacked; ``"auto"`` takes what is faster (and never changes between
    two runs on one machine, because rounding differs).

    A GPU is starved by one small network at a time, so there the answer is yes. On CPUs (measured,
    2 cores) stacking saves calls on small batches, 10 images or so, and wherever there are only
    matrix products; grouped convolutions are slower than separate ones on larger batches, and where
    they take most of the time anyway (ConvNet-3 of width 128 by a tenth, on any batch).

    In mixed precision convolutions are not stacked: vmap loses autocast on its way to them.

    Raises:
        DdistError: ``stacked`` is True, but the network keeps running statistics, or has
            convolutions and ``precision`` is mixed.
    """
    mixed_filters = precision != "32-true" and any(
        isinstance(m, nn.modules.conv._ConvNd) for m in network.modules()
    )
    if stacked == "auto":
        if keeps_statistics(network) or mixed_filters:
            return False
        filters = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
        small = batch_size <= _SMALL_BATCH and filters < _FEW_FILTER_WEIGHTS
        return device != "cpu" or filters == 0 or small
    if stacked and keeps_statistics(network):
        raise DdistError(
            "Networks with batch normalisation keep running statistics and cannot be stacked: "
            "choose network.norm=instance, or stacked=false."
        )
    if stacked and mixed_filters:
        raise DdistError(
            "Convolutions cannot be stacked in mixed precision: choose "
            "evaluation.precision=32-true, or stacked=false."
        )
    return stacked


@contextmanager
def mode(network: nn.Module, training: bool) -> Iterator[None]:
    """Set train or evaluation mode within the block, and restore the network's own afterwards."""
    before = network.training
    network.train(training)
    try:
        yield
    finally:
        network.train(before)


def concatenate(groups: list[Weights]) -> Weights:
    """Join several stacks into one."""
    return {name: torch.cat([weights[name] for weights in groups]) for name in groups[0]}
