"""The distilled sets that come with ddist, by their names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import META, READY


def ready_names() -> list[str]:
    """Return the names of the ready-made sets, those of a dataset by their number of images."""
    names = [file.parent.name for file in READY.glob(f"*/{META}")]
    return sorted(names, key=lambda name: (name.rpartition("-")[0], int(name.rpartition("-")[2])))


def ready_meta(name: str) -> dict[str, Any]:
    """Return what the set ``name`` says of itself."""
    meta: dict[str, Any] = json.loads((READY / name / META).read_text())
    return meta


class ReadySet(Dataset[tuple[Tensor, Tensor]]):
    """A distilled set as datasets of torchvision are: (image, target) by index, ``classes``,
    ``targets``.

    A target is a class or, where a set has soft labels, the probabilities of all classes. The
    images are normalised already; test images become so by :attr:`transform`:

    >>> train = ReadySet("mnist-10")  # doctest: +SKIP
    >>> test = torchvision.datasets.MNIST("data", train=False, transform=train.transform)

    Args:
        name: of a set that comes with ddist (``ddist task=sets``), or the folder of any other.
    """

    def __init__(self, name: str | Path) -> None:
        distilled = DistilledDataset.load(name)
        self.data, self.targets, self.weights = distilled.examples()
        self.classes: list[str] = list(distilled.meta["class_names"])
        self.transform: Callable[[Any], Tensor] = Transform(distilled)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.data[index], self.targets[index]


class Transform:
    """Normalises one picture as the images of a set are: of PIL, or [C, H, W] of 8 bits or of
    floats from 0 to 1."""

    def __init__(self, distilled: DistilledDataset) -> None:
        self._distilled = distilled

    def __call__(self, picture: Any) -> Tensor:
        if not isinstance(picture, Tensor):
            from torchvision.transforms.functional import pil_to_tensor

            picture = pil_to_tensor(picture)
        return self._distilled.normalize(torch.as_tensor(picture)[None])[0]
