"""A space of settings, and draws from it."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ddist.errors import DdistError
from ddist.seeding import generator

Settings = dict[str, Any]
"""Values by their dotted names."""


def axes_of(space: Mapping[str, Any], place: str = "") -> dict[str, list[Any]]:
    """Return the values of each setting in the nested ``space``, by its dotted name. Raise a
    DdistError for a setting without a list of values."""
    axes: dict[str, list[Any]] = {}
    for key, values in space.items():
        name = f"{place}{key}"
        if isinstance(values, Mapping):
            axes |= axes_of(values, f"{name}.")
        elif isinstance(values, list) and values:
            axes[name] = values
        else:
            raise DdistError(
                f"task.space.{name} is a list of values, such as [0.01, 0.1], not {values!r}."
            )
    return axes


def check_axes(axes: Mapping[str, list[Any]], cfg: DictConfig) -> None:
    """Raise a DdistError unless each of ``axes`` is a setting of ``cfg`` that networks are trained
    by, and there is one."""
    if not axes:
        raise DdistError("task.space is empty: name settings and their values.")
    for name in axes:
        group, _, setting = name.partition(".")
        if group not in ("network", "evaluation"):
            raise DdistError(
                f"task.space.{name}: networks are told apart by settings of network and of "
                "evaluation."
            )
        if setting not in (OmegaConf.select(cfg, group) or {}):
            known = sorted(str(key) for key in cfg[group] if not str(key).startswith("_"))
            raise DdistError(
                f"task.space.{name}: this {group} has no such setting, only {', '.join(known)}; "
                f"choose another {group}=…, or leave it out with ~task.space.{name}."
            )


def drawn(axes: Mapping[str, list[Any]], seed: int) -> Iterator[Settings]:
    """Yield all combinations of the values in ``axes`` in a random order that ``seed`` decides."""
    shape = [len(values) for values in axes.values()]
    for number in torch.randperm(prod(shape), generator=generator(seed, "space")).tolist():
        places = np.unravel_index(number, shape)
        yield {
            name: values[int(place)]
            for (name, values), place in zip(axes.items(), places, strict=True)
        }


def label(settings: Settings) -> str:
    """Return ``depth=3,norm=none``: settings by the ends of their names."""
    return ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in settings.items())
