"""What is made once of all images: their splits, the normalisation and the fingerprint."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ddist.artifact.normalization import Normalization, Unit
from ddist.data.classes import choose_classes, take_classes
from ddist.data.ondisk import Images
from ddist.data.sources.base import Arrays
from ddist.data.split import Split, convert
from ddist.data.statistics import channel_statistics, mean_std
from ddist.data.whitening import cached_zca, hash_tensors
from ddist.errors import DdistError
from ddist.storage.cache import cached_tensors


def fit_normalization(
    kind: Literal["mean_std", "zca", "none"],
    x: Images,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    cache: Path,
) -> Normalization:
    """Return the normalisation by the training images ``x``, or by a published ``mean`` and ``std``
    (see :func:`ddist.data.statistics.mean_std`)."""
    if kind == "zca":
        return cached_zca(x, cache)
    return mean_std(x, mean, std, partial(_statistics, cache)) if kind == "mean_std" else Unit()


def fingerprint(x: Images, tensors: Sequence[Tensor], cache: Path) -> str:
    """Return 16 hex digits of all images and ``tensors``, wherever they lie."""

    def compute() -> dict[str, Tensor]:
        return {"hash": torch.tensor(list(bytes.fromhex(hash_tensors(x, *tensors)))).byte()}

    stored = _once(x, cache, f".{hash_tensors(*tensors)}", compute)
    return bytes(stored["hash"].tolist()).hex()


def _statistics(cache: Path, x: Images) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel [C]."""

    def compute() -> dict[str, Tensor]:
        return dict(zip(("mean", "std"), channel_statistics(x), strict=True))

    stored = _once(x, cache, "", compute)
    return stored["mean"], stored["std"]


def _once(
    x: Images, cache: Path, key: str, compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return what ``compute`` makes of the images; kept beside them where they lie on disk, as
    reading all takes long."""
    if isinstance(x, Tensor):
        return compute()
    return cached_tensors(cache / "decoded" / f"{x.key}{key}.safetensors", compute)


def chosen_splits(
    name: str,
    arrays: Arrays,
    wanted: Sequence[int | str] | None,
    channels: int | None,
    size: int | None,
) -> tuple[tuple[str, ...], Split, Split]:
    """Return the names of the ``wanted`` classes of the dataset ``name``, or of all, and the images
    of these to train on and to test with, converted (see :func:`ddist.data.split.convert`)."""
    names = arrays.class_names
    chosen = choose_classes(name, names, wanted)
    train, test = (
        convert(Split.sort(*take_classes(x, y, chosen, len(names)), len(chosen)), channels, size)
        for x, y in ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test))
    )
    if len(test) == 0:
        raise DdistError(f"{name} has no test image of the classes that were chosen.")
    return tuple(names[c] for c in chosen), train, test
