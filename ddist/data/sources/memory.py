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
from ddist.data.split import draw_test
from ddist.errors import DdistError


def arrays_of(
    train: object, test: object | None, size: int | None, test_share: float, split_seed: int
) -> Arrays:
    """Return a dataset of what people have in Python: each of ``train`` and ``test`` is a pair
    (images, labels) of arrays or tensors (see :func:`ddist.data.sources.convert.as_images`), or a
    torch Dataset of such pairs, or of PIL pictures and labels. Without ``test``, ``test_share`` of
    each class of ``train`` is drawn for it, as of a folder. ``size`` is the side in pixels that the
    pictures of a Dataset are brought to."""
    x, y, names = examples("train", train, size)
    class_names = tuple(names or numbered(y))
    if test is None:
        drawn = sorted(draw_test(y.tolist(), class_names, test_share, split_seed))
        mask = torch.zeros(len(y), dtype=torch.bool).index_fill(0, torch.tensor(drawn), True)
        facts = {"test_split": {"drawn_share": test_share, "split_seed": split_seed}}
        return Arrays(x[~mask], y[~mask], x[mask], y[mask], class_names, facts)
    x_test, y_test, _ = examples("test", test, size)
    x_test = to_channels(x_test, x.shape[1])
    if x_test.shape[-1] != x.shape[-1] and x.shape[-1] == x.shape[-2]:
        x_test = to_size(x_test, x.shape[-1])
    return Arrays(x, y, x_test, y_test, class_names)


def examples(
    what: str, value: object, size: int | None
) -> tuple[Tensor, Tensor, Sequence[str] | None]:
    """Return the images uint8 [N, C, H, W], labels int64 [N] and, where it knows them, class names
    of a pair or a Dataset, which errors call ``what``; see :func:`arrays_of` for ``size``."""
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
    images, labels = [], []
    for index in range(len(value)):  # one by one: photos take far more memory than what is kept
        pair = value[index]
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise DdistError(f"{what} has to be a Dataset of pairs (image, label).")
        image = one_image(what, index, pair[0]).unsqueeze(0)
        images.append(image if size is None else to_size(image, size))
        labels.append(int(pair[1]))
    if not images:
        raise DdistError(f"{what} is an empty Dataset.")
    return stacked(what, images), as_labels(f"{what} labels", labels), names_of(value)


def one_image(what: str, index: int, value: object) -> Tensor:
    """Return one image, uint8 [C, H, W]."""
    if isinstance(value, Image):
        picture = value if value.mode in ("L", "RGB") else value.convert("RGB")
        pixels = torch.from_numpy(np.array(picture))
        return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    image = torch.as_tensor(value)
    return as_images(f"{what}[{index}]", image.unsqueeze(0))[0]


def stacked(what: str, images: Sequence[Tensor]) -> Tensor:
    """Stack images [1, C, H, W], brought to RGB where some are. Raise a DdistError where they
    differ in size."""
    shapes = {image.shape[2:] for image in images}
    if len(shapes) > 1:
        smallest, largest = min(map(min, shapes)), max(map(max, shapes))
        raise DdistError(
            f"The images of {what} have sides from {smallest} to {largest} pixels: name one, such "
            'as **{"dataset.size": 64}, or resize them in the Dataset\'s transform.'
        )
    channels = max(image.shape[1] for image in images)
    return torch.cat([to_channels(image, channels) for image in images])


def names_of(value: Any) -> list[str] | None:
    """Return the class names of a Dataset as torchvision's have them, also of a Subset."""
    while not hasattr(value, "classes") and hasattr(value, "dataset"):
        value = value.dataset
    names = getattr(value, "classes", None)
    return None if names is None else [str(name) for name in names]
