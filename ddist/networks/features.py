"""The features of a network: what its last linear layer makes the logits of."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddist.errors import DdistError
from ddist.networks.base import Network, Weights

_HEADS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()  # found once for each network


def embed(network: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """Return the features [N, F] of images [N, C, H, W] under ``weights`` (not stacked): what the
    ``body`` of a :class:`Network` makes, and what the last linear layer of any other is given.

    Raises:
        DdistError: another network's logits are not those of a last linear layer.
    """
    if not isinstance(network, Network):
        return _embed_by_head(network, weights, x)
    body = {
        name.removeprefix("body."): w for name, w in weights.items() if name.startswith("body.")
    }
    features: Tensor = functional_call(network.body, body, (x,))
    return features.flatten(1)


def classify(network: nn.Module, weights: Weights, features: Tensor) -> Tensor:
    """Return the logits [N, K] of the features [N, F] that :func:`embed` has given."""
    name = "head" if isinstance(network, Network) else _HEADS[network]
    own = {n.removeprefix(f"{name}."): w for n, w in weights.items() if n.startswith(f"{name}.")}
    logits: Tensor = functional_call(network.get_submodule(name), own, (features,))
    return logits


def check_features(network: nn.Module, x: Tensor, name: str) -> None:
    """Raise a DdistError unless ``network``, which the sentence calls ``name``, has features: for
    images ``x`` [N, C, H, W], its logits are what its last linear layer makes of them."""
    with torch.no_grad(), _evaluating(network):
        logits = network(x)
        head = network.head if isinstance(network, Network) else _last_linear(network, x)
        weights = dict(network.named_parameters()) | dict(network.named_buffers())
        if head is not None and torch.allclose(
            head(embed(network, weights, x)), logits, rtol=1e-4, atol=1e-5
        ):
            return
    _HEADS.pop(network, None)
    raise DdistError(
        f"{name} has no features, which this method compares: its logits have to be the output of "
        "a last nn.Linear, which is given [N, F]; change its forward, or choose a method that "
        "does without, such as method=dc."
    )


def _embed_by_head(network: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    if network not in _HEADS:
        check_features(network, x[:1].detach(), type(network).__name__)
    name = _HEADS[network]
    rest = {n: w for n, w in weights.items() if not n.startswith(f"{name}.")}
    with _without(network, name):
        features: Tensor = functional_call(network, rest, (x,))
    return features.flatten(1)


def _last_linear(network: nn.Module, x: Tensor) -> nn.Module | None:
    """Return the linear layer that is called last for images ``x``, and note its name; or None."""
    called: list[str] = []

    def note(name: str, *_: object) -> None:
        called.append(name)

    handles = [
        layer.register_forward_hook(partial(note, name))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        return None
    _HEADS[network] = called[-1]
    return network.get_submodule(called[-1])


@contextmanager
def _without(network: nn.Module, name: str) -> Iterator[None]:
    """Replace the layer ``name`` by the identity within the block."""
    place, _, last = name.rpartition(".")
    parent, head = network.get_submodule(place), network.get_submodule(name)
    setattr(parent, last, nn.Identity())
    try:
        yield
    finally:
        setattr(parent, last, head)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)
