"""The networks of a run, built from their configs and checked before anything is trained."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from torch import nn

from ddist.data import RealData
from ddist.errors import DdistError, in_own_code
from ddist.networks.features import check_features
from ddist.tasks.network_check import check_network, sample_images
from ddist.tasks.targets import find_target, maker


def uses_network(group: DictConfig) -> bool:
    """Tell whether the method or the protocol that ``group`` describes uses a network."""
    return bool(getattr(get_object(group._target_), "uses_network", True))


def build_network_for(group: DictConfig, config: DictConfig, data: RealData) -> nn.Module:
    """Build the network of a method or a protocol. Where that uses none (see :func:`uses_network`),
    return an identity instead, without a look at the network."""
    if not uses_network(group):
        return nn.Identity()
    features = bool(getattr(get_object(group._target_), "needs_features", False))
    return build_network(config, data, features=features)


def build_network(
    config: DictConfig, data: RealData, *, trains: bool = True, features: bool = False
) -> nn.Module:
    """Build a network for ``data`` and check it (see :func:`check_network`). Its own weights are
    never used, and drawing them leaves torch's global generator as it was."""
    name = f"The network {config._target_}"
    with torch.random.fork_rng(devices=[]):
        network = construct(config, data)
        check_network(network, name, data.image_shape, data.num_classes, trains=trains)
        if features:
            check_features(network, sample_images(2, data.image_shape), name)
    return network


def construct(config: DictConfig, data: RealData) -> nn.Module:
    """Call the ``_target_`` of ``config`` with its settings and, as far as it takes them, with
    ``num_classes`` and ``image_shape``; a constructor that names ``normalization`` is given the
    data's.

    Raises:
        DdistError: it cannot be imported, takes other arguments, or makes no module.
    """
    target = str(config._target_)
    find_target(target, "network")
    try:
        offered: dict[str, Any] = {
            "num_classes": data.num_classes,
            "image_shape": data.image_shape,
        }
        making = maker(config)
        if "normalization" in named_parameters(making):  # not one of ``**options``
            offered["normalization"] = data.normalization
        network = call_with(making, offered)
    except DdistError:
        raise
    except Exception as error:  # whatever somebody's constructor raises
        raise DdistError(misfit(target, error)) from error
    if not isinstance(network, nn.Module):
        raise DdistError(
            f"network._target_={target} makes a {type(network).__name__}, not a torch.nn.Module."
        )
    return network


def named_parameters(make: partial[Any]) -> Sequence[str]:
    """Return the names of the parameters that the constructor in ``make`` has."""
    try:
        return list(signature(make.func).parameters)
    except ValueError:  # what is written in C may have no signature
        return []


def call_with(make: partial[Any], offered: Mapping[str, Any]) -> Any:
    """Call ``make`` with those of ``offered`` that it takes, and return the result."""
    try:
        parameters = signature(make.func).parameters
        open_ended = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
        arguments = {n: v for n, v in offered.items() if open_ended or n in parameters}
    except ValueError:  # what is written in C may have no signature
        arguments = dict(offered)
    while True:
        try:
            return make(**arguments)
        except TypeError as error:  # of what ``**options`` are handed on to
            surplus = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if surplus is None or surplus[1] not in arguments:
                raise
            del arguments[surplus[1]]


def misfit(target: str, error: Exception) -> str:
    """Return the sentence for a network that cannot be built."""
    cause = error
    while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__  # of what Hydra wraps
    reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
    where = in_own_code(cause)
    surplus = re.search(r"unexpected keyword argument '(\w+)'", reason)
    if not isinstance(cause, TypeError) or (where and not surplus):
        place = where and f"{where}: {type(cause).__name__}: "
        return f"network._target_={target} cannot be built: {place}{reason}."
    if surplus:
        return (
            f"network._target_={target} does not take {surplus[1]!r}, which is set beside it: a "
            "class of your own comes with a YAML file of its own, in a folder given by "
            "--config-dir."
        )
    missing = re.search(r"missing \d+ required .*arguments?: (.*)", reason)
    if missing:
        return (
            f"network._target_={target} also wants {missing[1]}: set that beside it in YAML. What "
            "ddist gives is called num_classes and image_shape, (channels, height, width)."
        )
    return f"network._target_={target} does not fit what is set beside it ({reason})."
