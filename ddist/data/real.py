"""RealData: the dataset to be distilled, as uint8: on the device, or on disk where it is large."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt, MinLen
from pytorch_lightning import LightningDataModule
from torch import Tensor

from ddist.artifact.normalization import Normalization
from ddist.data.augmentation import crop_flip
from ddist.data.classes import untested_classes
from ddist.data.ondisk import parts
from ddist.data.sources.base import Arrays, Request, check_arrays
from ddist.data.sources.convert import as_arrays
from ddist.data.split import (
    Split,
    cut_validation,
    draw,
    draw_of_each_class,
    limit_classes,
    spare,
)
from ddist.data.stream import Endless
from ddist.data.whole import chosen_splits, fingerprint, fit_normalization
from ddist.seeding import generator as seeded
from ddist.settings.ranges import Positive, PositiveInt


class RealData(LightningDataModule):
    """Train, validation and test images, and the batches methods draw from them.

    Nothing is read before :meth:`load`. Images stay uint8 on one device and are normalised batch
    by batch; those of a large folder of pictures stay on disk (:class:`ddist.data.ondisk.OnDisk`).
    Draws come from the generator that is passed.

    Args:
        name: the dataset's name in results and messages.
        source: gives the arrays (see :mod:`ddist.data.sources`).
        channels: 1 or 3 to convert, None to keep.
        size: pixels of a side to resize to, None to keep.
        normalize: "mean_std", "zca" or "none".
        mean, std: per channel for "mean_std"; None computes them from the training split.
        subset: most images of each training class, None for all; drawn once, by the seed.
        validation: the fraction of each training class held out for selection; None for
            what it can spare (see :func:`ddist.data.split.spare`).
        augmentation: "none" or "crop_flip", on the batches of :meth:`batch`.
        mirror: whether a mirrored image keeps its class, which a digit does not. For augmentation
            that asks for it (see :class:`ddist.augment.Siamese`); "crop_flip" mirrors regardless.
        verify, download: compare checksums; fetch what is missing.
        seed: the run's root seed.
        root, cache: the folders of ``paths.data`` and ``paths.cache``.
        skip_damaged: whether pictures that cannot be decoded are left out, not an error.
        classes: names or numbers of the classes to take, in that order; None for all.
    """

    train: Split
    validation: Split | None
    test: Split
    normalization: Normalization
    class_names: tuple[str, ...]
    facts: Mapping[str, Any]
    """What reading decided by itself or found missing, by the names in results.json."""

    def __init__(
        self,
        *,
        name: str,
        source: Callable[[Request], Arrays],
        channels: Literal[1, 3] | None,
        size: PositiveInt | None,
        normalize: Literal["mean_std", "zca", "none"],
        mean: Sequence[float] | None,
        std: Sequence[Positive] | None,
        subset: PositiveInt | None,
        validation: Annotated[float, Ge(0), Lt(1)] | None,
        augmentation: Literal["none", "crop_flip"],
        mirror: bool,
        verify: bool,
        download: bool,
        skip_damaged: bool,
        classes: Annotated[Sequence[int | str], MinLen(2)] | None,
        seed: int,
        root: Path | str,
        cache: Path | str,
    ) -> None:
        super().__init__()
        self.name: str = name
        self.mirror = mirror
        self.seed = seed
        self.cache = Path(cache).expanduser()
        self.batch_size: int | None = None
        self.per_class: int | None = None
        self._source = source
        self._request = Request(
            root=Path(root).expanduser(),
            cache=self.cache,
            verify=verify,
            download=download,
            size=size,
            channels=channels,
            skip_damaged=skip_damaged,
            classes=classes,
        )
        self._fit = partial(fit_normalization, normalize, mean=mean, std=std, cache=self.cache)
        self._form, self._subset, self._validation = (channels, size), subset, validation
        self._augment = crop_flip if augmentation == "crop_flip" else None
        self._fingerprint: str | None = None

    # -- reading ---------------------------------------------------------------------------------

    def load(self) -> "RealData":
        """Read and prepare everything, once; later calls do nothing."""
        if hasattr(self, "train"):
            return self
        arrays = as_arrays(self.name, self._source(self._request))
        check_arrays(self.name, arrays)
        wanted = None if arrays.has_wanted_classes else self._request.classes
        self.class_names, train, self.test = chosen_splits(self.name, arrays, wanted, *self._form)
        if self._subset is not None:
            train = limit_classes(train, self._subset, seeded(self.seed, "subset"))
        self.validation = None
        if share := spare(train) if self._validation is None else self._validation:
            stream = seeded(self.seed, "validation")
            train, self.validation = cut_validation(train, share, stream)
        self.normalization = self._fit(train.x)
        untested = untested_classes(self.name, self.class_names, self.test.counts)
        self.facts = {**arrays.facts, **({"untested_classes": untested} if untested else {})}
        self.train = train
        return self

    def setup(self, stage: str | None = None) -> None:
        self.load()
        if self.trainer is not None:
            self.to(self.trainer.strategy.root_device)

    def to(self, device: torch.device | str) -> "RealData":
        """Move all splits and the normalisation to ``device``, in place."""
        self.train, self.test = self.train.to(device), self.test.to(device)
        self.validation = None if self.validation is None else self.validation.to(device)
        self.normalization = self.normalization.to(device)
        return self

    # -- what it is ------------------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        return self.train.x.device

    def smallest_class(self) -> int:
        """Return the number of images in the smallest training class."""
        return min(self.train.counts)

    def limited(self, most: int, *keys: int | str) -> "RealData":
        """Return this data with at most ``most`` training images of each class, drawn by the
        generator (seed, keys); the rest is shared."""
        return self._with(train=limit_classes(self.train, most, seeded(self.seed, *keys)))

    def of_classes(self, classes: Sequence[int]) -> "RealData":
        """Return the data of ``classes`` alone, numbered in that order; normalised as all are."""
        splits = {name: getattr(self, name) for name in ("train", "validation", "test")}
        chosen = {name: split and split.of_classes(classes) for name, split in splits.items()}
        return self._with(class_names=tuple(self.class_names[c] for c in classes), **chosen)

    def feeding(self, batch_size: int | None, per_class: int | None) -> "RealData":
        """Return this data with what :meth:`train_dataloader` gives: batches of ``batch_size``
        images or, for methods that look at each class by itself, the indices of ``per_class``
        images of each class; both None where nothing is needed."""
        return self._with(batch_size=batch_size, per_class=per_class)

    def normalized_by(self, normalization: Normalization) -> "RealData":
        """Return this data with another normalisation, such as that of a distilled set."""
        return self._with(normalization=normalization)

    def _with(self, **other: Any) -> "RealData":
        """Return a copy with ``other`` attributes, and a fingerprint of its own."""
        changed = copy(self)
        vars(changed).update(other, _fingerprint=None)
        return changed

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the training images, labels or normalisation: for
        the cache key of anything trained on this data."""
        if self._fingerprint is None:
            state = self.normalization.state()
            tensors = [value for value in state.values() if isinstance(value, Tensor)]
            self._fingerprint = fingerprint(self.train.x, [self.train.y, *tensors], self.cache)
        return self._fingerprint

    # -- batches ---------------------------------------------------------------------------------

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a uniform training batch, augmented and normalised: x [size, C, H, W], y [size].

        Draws without replacement, unless ``size`` exceeds the split.
        """
        indices = draw(len(self.train), size, generator).to(self.device)
        x, y = self.train.x[indices], self.train.y[indices]
        return self.normalization(self._augment(x, generator) if self._augment else x), y

    def class_indices(self, per_class: int, generator: torch.Generator) -> Tensor:
        """Draw the indices of ``per_class`` training images of each class: int64 [K, per_class], on
        the device. Draws without replacement, unless a class has fewer images."""
        return draw_of_each_class(self.train, per_class, generator).to(self.device)

    def images(self, indices: Tensor) -> Tensor:
        """Return the training images at ``indices`` (int64, any shape), normalised, never
        augmented: [*indices.shape, C, H, W]."""
        x = self.normalization(self.train.x[indices.flatten()])
        return x.view(*indices.shape, *x.shape[1:])

    def batches(self, split: Split, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the whole ``split`` in order, normalised, at most ``size`` images at a time."""
        for x, y in zip(parts(split.x, size), parts(split.y, size), strict=True):
            yield self.normalization(x), y

    def train_dataloader(self) -> Endless[tuple[Tensor, Tensor] | Tensor]:
        """Return endless training batches (:meth:`batch`) or class indices (:meth:`class_indices`)
        for Lightning; empty tensors for a method that looks at no real images.

        Element ``i`` comes from the generator (seed, "real", rank, i) alone and ``i`` starts at
        the trainer's step: a resumed run sees the batches of one without a stop, each rank its own.
        """
        size, per_class, trainer = self.batch_size, self.per_class, self.trainer

        def first() -> int:
            return trainer.global_step * trainer.accumulate_grad_batches if trainer else 0

        def element(index: int) -> tuple[Tensor, Tensor] | Tensor:
            rank = trainer.global_rank if trainer else 0
            stream = seeded(self.seed, "real", rank, index)
            if per_class is not None:
                return self.class_indices(per_class, stream)
            return torch.empty(0) if size is None else self.batch(size, stream)

        return Endless(first, element)
