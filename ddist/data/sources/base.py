"""What a source is asked for and what it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddist.data.ondisk import Images
from ddist.errors import DdistError


@dataclass(frozen=True)
class Request:
    """What every source is told; each uses what concerns it."""

    root: Path  # paths.data
    cache: Path  # paths.cache
    verify: bool
    download: bool
    # Wanted by the user; only sources that decode pictures see to it by themselves.
    size: int | None
    channels: int | None
    skip_damaged: bool  # leave out pictures that cannot be decoded
    # The classes wanted, in their order; sources that can leave the others unread do.
    classes: Sequence[int | str] | None


@dataclass(frozen=True)
class Arrays:
    """A whole dataset: uint8 images [N, C, H, W] in memory or on disk, int64 labels [N]. Images on
    disk are as the request wants them, and sorted by class. ``facts`` are what the source decided
    by itself, by name, for results.json; ``has_wanted_classes`` says that these are the classes
    that were asked for, and not all."""

    x_train: Images
    y_train: Tensor
    x_test: Images
    y_test: Tensor
    class_names: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    has_wanted_classes: bool = False


def check_arrays(name: str, found: Arrays) -> None:
    """Raise a DdistError, which names the dataset, if shapes, labels and classes do not fit."""
    num_classes = len(found.class_names)
    for part, x, y in (
        ("train", found.x_train, found.y_train),
        ("test", found.x_test, found.y_test),
    ):
        if len(x) != len(y) or len(x) == 0:
            raise DdistError(
                f"{name}: expected one {part} label per image and at least one image, got {len(x)} "
                f"images and {len(y)} labels."
            )
        if x.shape[1] not in (1, 3):
            raise DdistError(f"{name}: expected 1 or 3 channels in {part}, got {x.shape[1]}.")
        if y.min() < 0 or y.max() >= num_classes:
            raise DdistError(
                f"{name}: expected {part} labels from 0 to {num_classes - 1}, got "
                f"{int(y.min())} to {int(y.max())}."
            )
    if found.x_train.shape[1:] != found.x_test.shape[1:]:
        raise DdistError(
            f"{name}: train and test images differ in shape: {tuple(found.x_train.shape[1:])} and "
            f"{tuple(found.x_test.shape[1:])}."
        )
    counts = torch.bincount(found.y_train, minlength=num_classes)
    if (counts == 0).any():
        empty = int((counts == 0).nonzero()[0])
        raise DdistError(
            f"{name}: class {empty} ({found.class_names[empty]}) has no training image."
        )
