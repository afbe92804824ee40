"""Checks that the set in a file is of the dataset that it is said to be made from."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.exchange.foreign import Foreign

log = logging.getLogger(__name__)

FAR = 0.5  # beyond [0, 1]: no pixels


def check_fits(foreign: Foreign, data: RealData, path: Path, factor: int | None) -> None:
    """Raise a DdistError unless images and labels are such as the dataset's."""
    shape, labels = tuple(foreign.images.shape[1:]), foreign.labels
    if shape != tuple(data.image_shape):
        raise DdistError(
            f"{path} has images {shape} and {data.name} {tuple(data.image_shape)}: choose the "
            "dataset it was made from, or its dataset.size and dataset.channels."
        )
    if labels.is_floating_point() and labels.shape[1] != data.num_classes:
        raise DdistError(
            f"{path} has soft labels of {labels.shape[1]} classes and {data.name} has "
            f"{data.num_classes}."
        )
    if not labels.is_floating_point() and not ((labels >= 0) & (labels < data.num_classes)).all():
        raise DdistError(
            f"{path} has labels from {labels.min()} to {labels.max()}, and those of {data.name} "
            f"are 0 to {data.num_classes - 1}."
        )
    if factor is not None and any(side % factor for side in shape[1:]):
        raise DdistError(f"factor={factor} does not divide images of {shape[1]}x{shape[2]}.")


def check_pixels(images: Tensor, path: Path) -> None:
    """Raise a DdistError for values that pixels do not have."""
    if not images.isfinite().all():
        raise DdistError(f"{path} holds values that are not finite numbers.")
    low, high = float(images.min()), float(images.max())
    if low < -FAR or high > 1 + FAR:
        raise DdistError(
            f"{path} has values from {low:.2f} to {high:.2f}, which are no pixels in [0, 1]: "
            "normalization=mean_std or zca says how they were made."
        )


def images_per_class(labels: Tensor, num_classes: int, path: Path, ipc: int | None) -> int:
    """Return the images of a class, on average. Raises DdistError where ``ipc`` is another
    number."""
    hard = labels.argmax(1) if labels.is_floating_point() else labels
    counts = torch.bincount(hard, minlength=num_classes)
    sizes = f"{int(counts.min())} to {int(counts.max())} images of a class ({len(labels)} in all)"
    if ipc is not None and ipc * num_classes != len(labels):
        raise DdistError(f"{path} has {sizes}, and ipc={ipc} says otherwise.")
    if not labels.is_floating_point() and counts.min() != counts.max():
        log.warning("The classes differ in size: %s.", sizes)
    return max(1, round(len(labels) / num_classes))
