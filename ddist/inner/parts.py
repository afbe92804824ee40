"""Many images through a network, some at a time, where all at once would take too much memory."""

from collections.abc import Callable
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddist.inner.footprint import GRADIENT, Footprint, activation_limit
from ddist.inner.stacking import keeps_statistics
from ddist.networks.base import ImageShape

_footprints: WeakKeyDictionary[nn.Module, dict[ImageShape, Footprint]] = WeakKeyDictionary()


def footprint(network: nn.Module, image_shape: ImageShape) -> Footprint:
    """The footprint of ``network``, measured at the first call."""
    known = _footprints.setdefault(network, {})
    if image_shape not in known:
        known[image_shape] = Footprint(network, image_shape)
    return known[image_shape]


limit = cache(activation_limit)


def at_once(bytes_of_one: int, device: torch.device) -> int:
    """How many images or networks that take ``bytes_of_one`` each may be held together."""
    return max(1, limit(device) // max(1, bytes_of_one))


def num_real_at_once(network: nn.Module, x: Tensor, num_networks: int) -> int:
    """How many of the images ``x`` [B, C, H, W] the graph of ``num_networks`` is held of; all,
    where batch normalisation looks at all."""
    if keeps_statistics(network):
        return len(x)
    bytes_of_one = round(num_networks * GRADIENT * footprint(network, shape_of(x)).saved)
    return at_once(bytes_of_one, x.device)


def forward_in_parts(forward: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """``forward(x)`` [..., B, K] of images [B, C, H, W], holding the graph of ``size`` images at a
    time: backwards, that of each part is built once more. At most so many images are ``forward``
    itself."""
    if len(x) <= size:
        return forward(x)
    logits = [checkpoint(forward, part, use_reentrant=False) for part in torch.split(x, size)]
    return torch.cat(logits, -2)


def shape_of(x: Tensor) -> ImageShape:
    """(C, H, W) of images [..., C, H, W]."""
    channels, height, width = x.shape[-3:]
    return channels, height, width
