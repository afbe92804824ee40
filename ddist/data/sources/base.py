"""What a source is asked for and what it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ddist.data.ondisk import Images
from ddist.errors import DdistError

Fit = Literal["crop", "squash"]
"""The shorter side is resized, and the centre cropped; or both sides are resized."""


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
    fit: Fit = "crop"  # how a picture of another shape becomes a square of ``size``


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


def check_arrays(name: str, arrays: Arrays) -> None:
    """Raise a DdistError, which names the dataset, if shapes, labels and classes do not fit."""
    num_classes = len(arrays.class_names)
    for split, x, y in (
        ("train", arrays.x_train, arrays.y_train),
        ("test", arrays.x_test, arrays.y_test),
    ):
        if len(x) != len(y) or len(x) == 0:
            raise DdistError(
                f"{name}: expected one {split} label per image and at least one image, got "
                f"{len(x)} images and {len(y)} labels."
            )
        if x.shape[1] not in (1, 3):
            raise DdistError(f"{name}: expected 1 or 3 channels in {split}, got {x.shape[1]}.")
        if y.min() < 0 or y.max() >= num_classes:
            raise DdistError(
                f"{name}: expected {split} labels from 0 to {num_classes - 1}, got "
                f"{int(y.min())} to {int(y.max())}."
            )
    if arrays.x_train.shape[1:] != arrays.x_test.shape[1:]:
        raise DdistError(
            f"{name}: train and test images differ in shape: {tuple(arrays.x_train.shape[1:])} and "
            f"{tuple(arrays.x_test.shape[1:])}."
        )
    counts = torch.bincount(arrays.y_train, minlength=num_classes)
    if (counts == 0).any():
        empty = int((counts == 0).nonzero()[0])
        raise DdistError(
            f"{name}: class {empty} ({arrays.class_names[empty]}) has no training image."
        )
