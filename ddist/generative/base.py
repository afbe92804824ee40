"""What an encoder with its decoder is."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ddist.data import RealData


class Pair(ABC):
    """An encoder and its decoder, between pixels and latents.

    Pixels are float32 [N, C, H, W] in [0, 1], whatever the dataset's normalisation, and latents
    float32 [N, *latent_shape]; both on the device of the data that :meth:`prepare` was given, which
    comes before everything else. Nothing has a gradient.
    """

    latent_shape: tuple[int, ...]
    images_at_once: int = 256
    """How many images are encoded or decoded at a time."""
    slow: bool = False
    """True where decoding takes so long that each batch of images is worth keeping on disk."""

    @abstractmethod
    def prepare(self, data: RealData, seed: int) -> None:
        """Take from ``data`` what the pair needs of it (its shape, its class names) or learn from
        its training images; what is learned is kept in ``data.cache``. Raises DdistError."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Return the latents of images; nothing is random."""

    @abstractmethod
    def decode(self, latents: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of ``latents``, whose classes are int64 [N]; the caller clamps values
        beyond [0, 1]. ``generator`` (on the CPU) is for what is random."""

    @property
    @abstractmethod
    def signature(self) -> str:
        """A key that changes with anything that changes a latent, but for the images."""

    @property
    def decoding(self) -> str:
        """A key that changes with whatever changes a decoded image, but for latents and classes."""
        return self.signature

    @abstractmethod
    def __str__(self) -> str:
        """Return a short name, for messages."""
