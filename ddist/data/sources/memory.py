"""Data that is in Python already: pairs of arrays, and torch's Datasets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from ddist.data.pixels import to_channels, to_size
from ddist.data.sources.base import Arrays
from ddist.data.sources.convert import as_images, as_labels, numbered
from ddist.data.split import num_held_out
from ddist.errors import DdistError
from ddist.seeding import generator

TEST_SHARE = 0.2  # of each class, where there is no test data


def arrays_of(train: object, test: object | None, size: int | None) -> Arrays:
    """Return a dataset of what people have in Python: each of ``train`` and ``test`` is a pair
    (images, labels) of arrays or tensors (see :func:`ddist.data.sources.convert.as_images`), or a
    torch Dataset of such pairs, or of PIL pictures and labels. Without ``test``, a stratified part
    of ``train`` is drawn for it. ``size`` is the side in pixels of pictures of several sizes."""
    x, y, names = examples("train", train, size)
    facts: dict[str, Any] = {}
    if test is None:
        held_out = drawn(y)
        x_test, y_test, x, y = x[held_out], y[held_out], x[~held_out], y[~held_out]
        facts["test_split"] = {"drawn_share": TEST_SHARE, "split_seed": 0}
    else:
        x_test, y_test, _ = examples("test", test, size)
        x_test = to_channels(x_test, x.shape[1])
        if x_test.shape[-1] != x.shape[-1] and x.shape[-1] == x.shape[-2]:
            x_test = to_size(x_test, x.shape[-1])
    return Arrays(x, y, x_test, y_test, tuple(names or numbered(y)), facts)


def drawn(y: Tensor) -> Tensor:
    """Return a mask [N] of the images that are drawn for testing: of each class ``TEST_SHARE``, but
    at least one, and never all."""
    mask = torch.zeros(len(y), dtype=torch.bool)
    for label in y.unique().tolist():
        rows = (y == label).nonzero().flatten()
        order = torch.randperm(len(rows), generator=generator(0, "test", label))
        mask[rows[order[: num_held_out(len(rows), TEST_SHARE)]]] = True
    return mask


def examples(
    what: str, value: object, size: int | None
) -> tuple[Tensor, Tensor, Sequence[str] | None]:
    """Return the images uint8 [N, C, H, W], labels int64 [N] and, where it knows them, class names
    of a pair or a Dataset, which errors call ``what``."""
    if isinstance(value, tuple | list) and len(value) == 2:
        x, y = as_images(f"{what} images", value[0]), as_labels(f"{what} labels", value[1])
        if len(x) != len(y):
            raise DdistError(f"{what} has {len(x)} images and {len(y)} labels.")
        return x, y, None
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise DdistError(
            f"{what} is of type {type(value).__name__}: give a folder, a pair (images, labels) of "
            "arrays or tensors, or a torch Dataset with a length."
        )
    pairs = [value[index] for index in range(len(value))]
    if not pairs or not all(isinstance(p, tuple | list) and len(p) == 2 for p in pairs):
        raise DdistError(f"{what} has to be a Dataset of pairs (image, label), and not empty.")
    images = [one_image(what, index, image) for index, (image, _) in enumerate(pairs)]
    labels = as_labels(f"{what} labels", [int(label) for _, label in pairs])
    return same_size(what, images, size), labels, names_of(value)


def one_image(what: str, index: int, value: object) -> Tensor:
    """Return one image, uint8 [C, H, W]."""
    if isinstance(value, Image):
        picture = value if value.mode in ("L", "RGB") else value.convert("RGB")
        pixels = torch.from_numpy(np.array(picture))
        return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    image = torch.as_tensor(value)
    return as_images(f"{what}[{index}]", image.unsqueeze(0))[0]


def same_size(what: str, images: Sequence[Tensor], size: int | None) -> Tensor:
    """Stack images, brought to RGB where some are, and to ``size`` where they differ in size."""
    channels = max(image.shape[0] for image in images)
    images = [to_channels(image.unsqueeze(0), channels) for image in images]
    shapes = {image.shape[2:] for image in images}
    if len(shapes) > 1 and size is None:
        smallest, largest = min(map(min, shapes)), max(map(max, shapes))
        raise DdistError(
            f"The images of {what} have sides from {smallest} to {largest} pixels: name one, such "
            'as **{"dataset.size": 64}, or resize them in the Dataset\'s transform.'
        )
    return torch.cat([image if len(shapes) == 1 else to_size(image, size or 0) for image in images])


def names_of(value: Any) -> list[str] | None:
    """Return the class names of a Dataset as torchvision's have them, also of a Subset."""
    while not hasattr(value, "classes") and hasattr(value, "dataset"):
        value = value.dataset
    names = getattr(value, "classes", None)
    return None if names is None else [str(name) for name in names]
