"""Principal components of the training images (scikit-learn)."""

import logging
from math import prod

import torch
from sklearn.decomposition import IncrementalPCA
from torch import Tensor

from ddist.artifact.normalization import to_unit
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative.base import Pair
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt
from ddist.storage.cache import cached_tensors
from ddist.storage.signature import signature

log = logging.getLogger(__name__)


class PCA(Pair):
    """The coordinates of an image along its dataset's principal components.

    They are fitted in batches of random training images (IncrementalPCA, which is exact for a
    single batch) and kept under ``<cache>/pca``.

    Args:
        components: how many.
        num_images: random training images that they are fitted to; None for all.
    """

    images_at_once = 1024

    def __init__(self, *, components: PositiveInt, num_images: PositiveInt | None) -> None:
        self.components, self.num_images = components, num_images
        self.latent_shape = (components,)

    def prepare(self, data: RealData, seed: int) -> None:
        num_images = min(self.num_images or len(data.train), len(data.train))
        most = min(num_images, prod(data.image_shape))
        if self.components > most:
            raise DdistError(
                f"generative.components={self.components} are more than {num_images} images of "
                f"{prod(data.image_shape)} pixels have: choose at most {most}."
            )
        self._signature = signature(
            {
                "source": data.fingerprint(),
                "seed": seed,
                "components": self.components,
                "num_images": num_images,
            }
        )
        fitted = cached_tensors(
            data.cache / "pca" / f"{self._signature}.safetensors",
            lambda: self._fit(data, num_images, seed),
        )
        self._shape = data.image_shape
        self._mean, self._directions = (fitted[n].to(data.device) for n in ("mean", "directions"))

    def _fit(self, data: RealData, num_images: int, seed: int) -> dict[str, Tensor]:
        log.info("Fitting %d principal components to %s images.", self.components, num_images)
        # At least so many as there are components, in every batch.
        num_batches = max(1, num_images // max(512, 2 * self.components))
        order = torch.randperm(len(data.train), generator=generator(seed, "pca"))[:num_images]
        model = IncrementalPCA(self.components)
        for rows in order.tensor_split(num_batches):
            x = to_unit(data.train.x[rows.to(data.device)]).flatten(1)
            model.partial_fit(x.double().cpu().numpy())
        return {
            "mean": torch.from_numpy(model.mean_).float(),
            "directions": torch.from_numpy(model.components_).float(),
        }

    def encode(self, pixels: Tensor) -> Tensor:
        return (pixels.flatten(1) - self._mean) @ self._directions.T

    def decode(self, latents: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        return (latents @ self._directions + self._mean).view(-1, *self._shape)

    @property
    def signature(self) -> str:
        return f"pca {self._signature}"

    def __str__(self) -> str:
        return f"pca of {self.components} components"
