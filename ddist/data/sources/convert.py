"""Arrays as people have them, as the arrays that a dataset is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddist.data.ondisk import OnDisk
from ddist.data.sources.base import Arrays
from ddist.errors import DdistError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def as_arrays(name: str, value: object) -> Arrays:
    """Convert what the source of the dataset ``name`` returned: :class:`Arrays`, a mapping of its
    fields, ``(x_train, y_train, x_test, y_test)`` with or without ``class_names`` behind them, or
    ``((x_train, y_train), (x_test, y_test))``, of tensors, numpy arrays or lists (see
    :func:`as_images` and :func:`as_labels`). Classes without names are called by their numbers.

    Raises:
        DdistError: it is none of these.
    """
    if not isinstance(value, Arrays):
        value = Arrays(*_fields(name, value))
    x_train, x_test = (
        x if isinstance(x, OnDisk) else as_images(f"{name}: {key}", x)
        for key, x in (("x_train", value.x_train), ("x_test", value.x_test))
    )
    y_train = as_labels(f"{name}: y_train", value.y_train)
    y_test = as_labels(f"{name}: y_test", value.y_test)
    names: Sequence[object] | None = value.class_names
    class_names = numbered(y_train) if names is None else tuple(str(label) for label in names)
    return replace(
        value,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        class_names=class_names,
    )


def _fields(name: str, value: object) -> tuple[Any, ...]:
    """Return the fields of :class:`Arrays`, with None for class names that are not given."""
    if isinstance(value, Mapping) and value.keys() >= set(KEYS):
        return *(value[key] for key in KEYS), value.get("class_names")
    if isinstance(value, tuple | list):
        if len(value) == 2 and all(isinstance(e, tuple | list) and len(e) == 2 for e in value):
            return *value[0], *value[1], None
        if len(value) in (4, 5):
            return tuple(value) if len(value) == 5 else (*value, None)
    came = f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else None
    raise DdistError(
        f"The source of {name} returns a {came or type(value).__name__}, not training and test "
        "images with their labels: return ddist.data.sources.Arrays(x_train, y_train, x_test, "
        "y_test, class_names)."
    )


def numbered(y: Tensor) -> tuple[str, ...]:
    """Name the classes of the labels ``y``, int64 [N], by their numbers."""
    return tuple(str(label) for label in range(int(y.max()) + 1 if len(y) else 0))


def as_images(what: str, value: object) -> Tensor:
    """Convert images [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, of numbers 0 to 255
    or floats in [0, 1], which are rounded, to uint8 [N, C, H, W]. A DdistError calls them
    ``what``."""
    x = _tensor(what, value)
    if x.ndim == 3:
        x = x.unsqueeze(1)
    if x.ndim != 4 or not {x.shape[1], x.shape[3]} & {1, 3}:
        raise DdistError(
            f"{what} must be [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, got "
            f"{list(x.shape)}."
        )
    if x.shape[1] not in (1, 3):
        x = x.permute(0, 3, 1, 2)
    if x.dtype == torch.uint8:
        return x.contiguous()
    if x.is_complex() or x.dtype == torch.bool:
        raise DdistError(f"{what} must be uint8 or floats in [0, 1], got {x.dtype}.")
    most = 1 if x.is_floating_point() else 255
    if not bool(((x >= 0) & (x <= most)).all()):  # NaN fails too
        kind = "floats outside [0, 1]" if most == 1 else "integers outside 0 to 255"
        raise DdistError(
            f"{what} holds {kind} (from {x.min().item()} to {x.max().item()}): scale them to "
            "[0, 1] or store uint8."
        )
    return (x * 255 if most == 1 else x).round().to(torch.uint8).contiguous()


def as_labels(what: str, value: object) -> Tensor:
    """Convert integer labels [N] or [N, 1] to int64 [N]; a DdistError calls them ``what``."""
    y = _tensor(what, value)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.squeeze(1)
    if y.ndim != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise DdistError(
            f"{what} must be integer labels [N] or [N, 1], got {y.dtype} {list(y.shape)}."
        )
    return y.long()


def _tensor(what: str, value: object) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        return torch.from_numpy(np.ascontiguousarray(value))
    except (TypeError, ValueError) as error:  # ragged lists, words
        reason = str(error).split(". ")[0]
        raise DdistError(f"{what} is no array of numbers ({reason}).") from None
