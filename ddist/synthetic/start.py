"""Where synthetic images start. Some of these starts are baselines by themselves.

Each is ``start(data, labels, generator) -> images``: one image [C, H, W] in training space for
each entry of ``labels`` (int64 [N]).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ddist.artifact.files import READY
from ddist.artifact.normalization import to_unit
from ddist.data import RealData
from ddist.data.ondisk import OnDisk
from ddist.errors import DdistError

Scarce = Literal["refuse", "repeat", "fewer"]
REPEAT = (
    ", synthetic.scarce=fewer to have fewer images of it, synthetic.scarce=repeat to take them "
    "several times, or a method that learns with synthetic.start=noise"
)


def start_images(
    name: str,
    data: RealData,
    labels: Tensor,
    generator: torch.Generator,
    scarce: Scarce = "repeat",
) -> Tensor:
    """Return the images of the start called ``name``.

    ``scarce`` says what happens to a class of fewer real images than ``labels`` asks for, where the
    start needs them: "refuse" raises a DdistError, the others take all of them equally often, give
    or take one. (With "fewer" :func:`images_per_class` asks for no more.)
    """
    if name not in STARTS:
        raise DdistError(
            f"synthetic.start is one of {', '.join(STARTS)}, the folder of a distilled set or "
            f"the name of a ready-made one (ddist task=sets), not {name!r}."
        )
    if scarce == "refuse" and STARTS[name] in (real, kmeans):
        check_enough(data, labels, REPEAT)
    return STARTS[name](data, labels, generator)


def images_per_class(data: RealData, ipc: int, real_each: int) -> list[int]:
    """Return how many stored images each class has, at most ``ipc`` and at least one, where each
    takes ``real_each`` of the class's real images and none is taken twice."""
    return [max(1, min(ipc, count // real_each)) for count in data.train.counts]


def earlier_folder(start: str) -> Path | None:
    """Return the folder of the distilled set that ``start`` says, also as the name of a ready-made
    one; None where it says none."""
    if start in STARTS:
        return None
    folders = (Path(start).expanduser(), READY / start)
    return next((folder for folder in folders if folder.is_dir()), None)


def noise(data: RealData, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal pixels in training space."""
    shape = (len(labels), *data.image_shape)
    return torch.randn(shape, generator=generator).to(data.device)


def real(data: RealData, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw different random training images of each class, repeated where it has too few."""
    if isinstance(data.train.x, OnDisk):  # reads no others; the same to the last bit, unless white
        starts, counts = data.train.offsets[:-1], data.train.counts
        rows = torch.empty_like(labels, device="cpu")
        for c in labels.unique().tolist():
            here = (labels == c).cpu()
            rows[here] = starts[c] + _distinct(counts[c], int(here.sum()), generator)
        return data.images(rows)
    return _per_class(data, labels, lambda x, k: x[_distinct(len(x), k, generator)])


def check_enough(data: RealData, labels: Tensor, remedy: str = "") -> None:
    """Raise a DdistError unless every class has as many real images as ``labels`` asks for;
    ``remedy`` says what helps besides fewer images."""
    asked = torch.bincount(labels.cpu(), minlength=data.num_classes).tolist()
    for name, most, count in zip(data.class_names, asked, data.train.counts, strict=True):
        if most > count:
            raise DdistError(
                f"{most} different real images of the class {name} are needed, but {data.name} has "
                f"{count}: choose a smaller ipc or synthetic.factor{remedy}."
            )


def average(data: RealData, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean training image of each class, repeated."""
    return _per_class(data, labels, lambda x, k: x.mean(0, keepdim=True).expand(k, *x.shape[1:]))


def kmeans(data: RealData, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the centroids of k-means (k-means++ start) within each class, in training space; where
    a class has fewer images, as many centroids as images, repeated."""

    def centroids(x: Tensor, k: int) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=generator))
        num = min(k, len(x))
        clusters = KMeans(num, n_init=1, random_state=seed).fit(x.flatten(1).cpu().numpy())
        means = torch.from_numpy(clusters.cluster_centers_).to(x).reshape(num, *x.shape[1:])
        return means[torch.arange(k) % num]

    return _per_class(data, labels, centroids)


def sample(data: RealData, most: int) -> Tensor:
    """Return at most ``most`` training images [N, C, H, W], evenly spaced, as pixels in [0, 1]."""
    return to_unit(data.train.at_most(most).x[:])


def _per_class(data: RealData, labels: Tensor, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Fill each class's places with ``choose(x, k)``: k images made from its training images x."""
    images = torch.empty((len(labels), *data.image_shape), device=data.device)
    offsets = data.train.offsets
    for c in labels.unique().tolist():
        places = (labels == c).to(data.device)
        x = data.normalization(data.train.x[offsets[c] : offsets[c + 1]])
        images[places] = choose(x, int(places.sum()))
    return images


def _distinct(population: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw ``size`` indices below ``population`` in a random order, int64: all different or, where
    there are too few, all of them again and again."""
    return torch.randperm(population, generator=generator)[torch.arange(size) % population]


STARTS: dict[str, Callable[[RealData, Tensor, torch.Generator], Tensor]] = {
    start.__name__: start for start in (noise, real, average, kmeans)
}
