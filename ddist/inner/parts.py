"""Many images through a network, some at a time, where all at once would take too much memory."""

from collections.abc import Callable
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddist.inner.footprint import GRADIENT, Footprint, activation_limit, free_memory
from ddist.inner.stacking import keeps_statistics
from ddist.inner.unroll import Graph
from ddist.networks.base import ImageShape

_footprints: WeakKeyDictionary[nn.Module, dict[ImageShape, Footprint]] = WeakKeyDictionary()


def footprint(network: nn.Module, image_shape: ImageShape) -> Footprint:
    """Return the footprint of ``network``, measured at the first call."""
    known = _footprints.setdefault(network, {})
    if image_shape not in known:
        known[image_shape] = Footprint(network, image_shape)
    return known[image_shape]


limit = cache(activation_limit)


FREE_SHARE = 0.5  # of the free memory that a graph of all steps may take


def fastest_graph(one: Footprint, num_images: int, steps: int, device: torch.device) -> Graph:
    """Return the fastest exact gradient through ``steps`` steps on ``num_images`` each that leaves
    half of the free memory free: all give the same numbers. On a CPU a graph beyond
    :func:`ddist.inner.footprint.activation_limit` is slower than one that is rebuilt."""
    most = min(limit(device), FREE_SHARE * (free_memory(device) or 0))
    faster: tuple[Graph, ...] = ("autograd", "selective")
    fitting = (graph for graph in faster if one.unrolled(num_images, steps, graph) <= most)
    return next(fitting, "checkpoint")


def at_once(bytes_of_one: int, device: torch.device) -> int:
    """Return how many images or networks of ``bytes_of_one`` each may be held together."""
    return max(1, limit(device) // max(1, bytes_of_one))


def num_real_at_once(network: nn.Module, x: Tensor, num_networks: int) -> int:
    """Return for how many of the images ``x`` [B, C, H, W] the graph of ``num_networks`` may be
    held; for all, if batch normalisation has to see them together."""
    if keeps_statistics(network):
        return len(x)
    bytes_of_one = round(num_networks * GRADIENT * footprint(network, shape_of(x)).saved)
    return at_once(bytes_of_one, x.device)


def forward_in_parts(forward: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Compute ``forward(x)`` [..., B, K] of images [B, C, H, W], holding the graph of at most
    ``size`` images at a time: on the way back each part's graph is built once more. If there are
    no more images than that, ``forward`` is called as it is."""
    if len(x) <= size:
        return forward(x)
    logits = [checkpoint(forward, chunk, use_reentrant=False) for chunk in torch.split(x, size)]
    return torch.cat(logits, -2)


def shape_of(x: Tensor) -> ImageShape:
    """Return (C, H, W) of images [..., C, H, W]."""
    channels, height, width = x.shape[-3:]
    return channels, height, width
