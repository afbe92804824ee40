"""Networks that a function in Python makes, under a name that a config can hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from ddist.errors import DdistError
from ddist.networks.base import ImageShape

_FACTORIES: dict[str, Callable[[int, ImageShape], nn.Module]] = {}


@contextmanager
def given_network(make: Callable[[int, ImageShape], nn.Module]) -> Iterator[dict[str, str]]:
    """Yield the settings of a network that ``make`` makes from (classes, image shape), for as long
    as they can be used."""
    name = str(getattr(make, "__name__", type(make).__name__))
    _FACTORIES[name] = make
    try:
        yield {"_target_": f"{__name__}.given", "factory": name}
    finally:
        _FACTORIES.pop(name, None)


def given(factory: str, num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Make the network of :func:`given_network`. Raise a DdistError where that was in a process of
    the past."""
    if factory not in _FACTORIES:
        raise DdistError(
            f"The network {factory} was a function in Python, which no file keeps: name another, "
            "such as network=convnet."
        )
    return _FACTORIES[factory](num_classes, image_shape)
