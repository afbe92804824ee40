"""One split of a dataset, sorted by class, so that a class is a slice and never a search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddist.data.ondisk import Images
from ddist.data.pixels import to_channels, to_size
from ddist.errors import DdistError
from ddist.seeding import generator as seeded


@dataclass(frozen=True)
class Split:
    """Images and labels sorted by class; class ``c`` is ``x[offsets[c]:offsets[c + 1]]``."""

    x: Images  # uint8 [N, C, H, W]
    y: Tensor  # int64 [N], ascending
    offsets: tuple[int, ...]  # num_classes + 1 of them, from 0 to N

    @classmethod
    def sort(cls, x: Images, y: Tensor, num_classes: int) -> "Split":
        """Sort by class; images of one class keep their order."""
        order = torch.argsort(y, stable=True)
        counts = torch.bincount(y, minlength=num_classes)
        if isinstance(x, Tensor):
            x = x[order]
        elif not torch.equal(order, torch.arange(len(x))):
            x = x.pick(order)
        return cls(x, y[order], (0, *torch.cumsum(counts, 0).tolist()))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(
            end - start for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)
        )

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.x.to(device), self.y.to(device), self.offsets)

    def take(self, indices: Tensor) -> "Split":
        """Return the images at ``indices`` (int64 [M]), still sorted by class."""
        x = self.x[indices] if isinstance(self.x, Tensor) else self.x.pick(indices)
        return Split.sort(x, self.y[indices], len(self.offsets) - 1)

    def at_most(self, most: int) -> "Split":
        """Return ``most`` images, evenly spaced and so of all classes alike, or all of them."""
        if most >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, most, dtype=torch.float64).round().long()
        return self.take(chosen.to(self.y.device))

    def of_classes(self, classes: Sequence[int]) -> "Split":
        """Return the images of ``classes``, which are numbered 0, 1, … in that order."""
        rows = [torch.arange(*self.offsets[c : c + 2]) for c in classes]
        indices = torch.cat(rows).to(self.y.device)
        y = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(row) for row in rows]))
        x = self.x[indices] if isinstance(self.x, Tensor) else self.x.pick(indices)
        return Split.sort(x, y.to(self.y.device), len(classes))


def permute_classes(split: Split, generator: torch.Generator) -> list[Tensor]:
    """Return, for each class, the indices of its images in a random order."""
    return [
        start + torch.randperm(count, generator=generator)
        for start, count in zip(split.offsets[:-1], split.counts, strict=True)
    ]


def limit_classes(split: Split, most: int, generator: torch.Generator) -> Split:
    """Draw at most ``most`` images of each class, without replacement (``dataset.subset``)."""
    kept = [indices[:most] for indices in permute_classes(split, generator)]
    return split.take(torch.cat(kept))


def cut_validation(
    split: Split, fraction: float, generator: torch.Generator
) -> tuple[Split, Split]:
    """Cut a stratified validation split from ``split``; return (the rest, the validation split).

    Each class gives round(fraction * its images), but at least one, and keeps at least one.
    """
    if min(split.counts) < 2:
        scarce = split.counts.index(min(split.counts))
        raise DdistError(
            f"dataset.validation={fraction} needs at least 2 training images in each class, "
            f"but class {scarce} has {split.counts[scarce]}: set dataset.validation=0."
        )

    orders = permute_classes(split, generator)
    left = torch.cat([order[num_held_out(len(order), fraction) :] for order in orders])
    validation = torch.cat([order[: num_held_out(len(order), fraction)] for order in orders])
    return split.take(left), split.take(validation)


SPARE, MOST_SPARE, LEAST_LEFT = 0.1, 1000, 4


def spare(split: Split) -> float:
    """Return the fraction of ``split`` that can be spared for selection: ``SPARE``, at most
    ``MOST_SPARE`` images, or 0 where a class would keep fewer than ``LEAST_LEFT``."""
    if min(split.counts) <= LEAST_LEFT:
        return 0.0
    return min(SPARE, MOST_SPARE / len(split))


def num_held_out(count: int, fraction: float) -> int:
    """Return how many of ``count`` images are held out: ``fraction`` of them, but at least one, and
    never all."""
    return min(max(1, round(fraction * count)), count - 1)


def draw_test(
    labels: Sequence[int], class_names: Sequence[str], share: float, seed: int
) -> set[int]:
    """Draw a stratified test split of images with these ``labels``, and return its rows.

    A class gives ``share`` of its images, but at least one, and keeps at least one: a class of one
    image has none to test. Each class is drawn by the generator (seed, "test", its name), whatever
    other classes there are.
    """
    of_class: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        of_class.setdefault(label, []).append(row)
    drawn: set[int] = set()
    for label, rows in of_class.items():
        order = torch.randperm(len(rows), generator=seeded(seed, "test", class_names[label]))
        drawn.update(rows[k] for k in order[: num_held_out(len(rows), share)].tolist())
    return drawn


def convert(split: Split, channels: int | None, size: int | None) -> Split:
    """Return the split with images of so many channels and of ``size`` pixels a side; None keeps
    what they have."""
    if channels is not None:
        split = map_images(split, lambda x: to_channels(x, channels))
    if size is not None:
        split = map_images(split, lambda x: to_size(x, size))
    return split


def map_images(split: Split, change: Callable[[Tensor], Tensor]) -> Split:
    """Apply ``change`` (uint8 in, uint8 out) to the images and keep the labels. Images on disk stay
    as they are: their source has already converted them."""
    return Split(change(split.x), split.y, split.offsets) if isinstance(split.x, Tensor) else split


def draw(population: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw ``size`` indices below ``population`` (int64), without replacement if they suffice."""
    device = generator.device
    if size <= population:
        return torch.randperm(population, generator=generator, device=device)[:size]
    return torch.randint(population, (size,), generator=generator, device=device)


def draw_of_each_class(split: Split, per_class: int, generator: torch.Generator) -> Tensor:
    """Draw the indices of ``per_class`` images of each class, int64 [K, per_class], without
    replacement unless a class has fewer."""
    rows = [
        start + draw(count, per_class, generator)
        for start, count in zip(split.offsets[:-1], split.counts, strict=True)
    ]
    return torch.stack(rows)
