"""The interface of codes: tensors that stand for images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddist.errors import DdistError

Tensors = Mapping[str, Tensor]


class Code(ABC):
    """How images are stored as named tensors: those of floating point are learned, those of
    integers say once and for all what the others mean. Each counts with all its bytes."""

    name: ClassVar[str]

    @abstractmethod
    def encode(self, images: Tensor, num_bytes: int, sample: Tensor) -> dict[str, Tensor]:
        """Return the tensors, of at most ``num_bytes`` bytes, that come closest to ``images``
        [N, C, H, W] in training space. ``sample`` are real images like them, which may show what
        is worth its bytes. Raises a DdistError where so few bytes hold nothing."""

    @staticmethod
    @abstractmethod
    def decode(codes: Tensors, image_shape: tuple[int, ...]) -> Tensor:
        """Return the images [N, C, H, W] of ``image_shape`` (C, H, W), differentiable."""


@dataclass(frozen=True)
class Codes:
    """The tensors of images, and the :class:`Code` that reads them, by its name. ``mirror`` has
    each image followed by its mirror image."""

    kind: str
    mirror: bool
    tensors: Tensors


def with_mirrors(images: Tensor, mirror: bool) -> Tensor:
    """Return the images [N, C, H, W] or, with ``mirror``, [2 N, C, H, W]: each is followed by its
    mirror image (FYI, Son et al. 2024, arXiv 2407.08113)."""
    return torch.stack([images, images.flip(3)], 1).flatten(0, 1) if mirror else images


def check_room(size: int, num_bytes: float) -> None:
    """Raise a DdistError unless ``size``, which the ``num_bytes`` of an image allow, is above 0."""
    if size < 1:
        raise DdistError(
            f"{num_bytes:.0f} bytes are too few for the code of an image: choose a smaller "
            "synthetic.copies."
        )
