"""The checks and the cache key of networks that are trained on real data and kept."""

from typing import Any

from torch import nn

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init.random import device_of
from ddist.inner.stacking import keeps_statistics
from ddist.networks.base import Network
from ddist.storage.signature import signature as of_settings


def check_source(network: nn.Module, source: RealData, keeper: str, use: str, remedy: str) -> None:
    """Raise a DdistError unless ``network`` can be trained on ``source`` and kept as weights alone.

    ``keeper`` says what keeps them, ``use`` what the network is to be ("an expert"), and ``remedy``
    what to do where it is for other images or classes.
    """
    if keeps_statistics(network):
        raise DdistError(
            f"{keeper} keeps weights only, not the running statistics of batch normalisation: "
            "choose network.norm=instance, or a network without it."
        )
    check_fits(network, source, use, remedy)


def check_fits(network: nn.Module, source: RealData, use: str, remedy: str) -> None:
    """Raise a DdistError unless ``network`` is for the images and classes of ``source``; ``use``
    and ``remedy`` as in :func:`check_source`."""
    if not isinstance(network, Network):
        return  # a caller's own module: it fails by itself if it does not fit
    expected = (network.num_classes, network.image_shape)
    came = (source.num_classes, source.image_shape)
    if expected != came:
        raise DdistError(
            f"A network for {expected[0]} classes and images {expected[1]} cannot be {use} on "
            f"{source.name} with {came[0]} classes and images {came[1]}: {remedy}."
        )


def signature(network: nn.Module, source: RealData, seed: int, **more: Any) -> str:
    """Return 8 hex digits that change with the network, its device's type, the training images, the
    seed and ``more`` (values of JSON): the key of what was trained."""
    source.load()
    parts = {
        "network": repr(network),
        "shapes": [list(p.shape) for p in network.parameters()],
        "source": source.fingerprint(),
        "seed": seed,
        "device": device_of(network).type,
        **more,
    }
    return of_settings(parts)
