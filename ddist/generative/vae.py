"""The variational autoencoder of a latent diffusion model, as diffusers keeps it."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.data import RealData
from ddist.data.whitening import hash_tensors
from ddist.errors import DdistError
from ddist.generative.base import Pair
from ddist.generative.pretrained import diffusers_library, read_config, read_part, vae_folder
from ddist.settings.ranges import PositiveInt
from ddist.storage.signature import signature

DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}


class VAE(Pair):
    """An AutoencoderKL (Rombach et al. 2022, arXiv 2112.10752) with given weights:

        z = (mode of q(z | 2 x - 1) - shift) * scale,  x = (D(z / scale + shift) + 1) / 2

    with the shift (0 for most) and the scale that its settings name.

    Args:
        model: its folder, that of a pipeline, or the name of either on the hub.
        revision: of a model on the hub; None for its latest.
        resolution: pixels of a side that images have in the model's eyes, resized (bicubic) both
            ways; None for as they are.
        batch_size: images that are encoded or decoded at a time.
        dtype: of the weights, "float32", "float16" or "bfloat16"; "auto" is float16 on an
            accelerator and float32 on the CPU.
        accelerator: "cpu", or anything else to compute on the machine's accelerator, if any.

    Latents are those of the weights: a copy elsewhere, or a pipeline around them, shares them.
    """

    name = "vae"

    def __init__(
        self,
        *,
        model: str | None,
        revision: str | None,
        resolution: PositiveInt | None,
        batch_size: PositiveInt,
        dtype: Literal["auto", "float32", "float16", "bfloat16"],
        accelerator: str,
    ) -> None:
        self.model, self.revision = model, revision
        self.resolution, self.images_at_once = resolution, batch_size
        device = torch.accelerator.current_accelerator(check_available=True)
        self.device = device if device and accelerator != "cpu" else torch.device("cpu")
        if dtype == "auto":
            dtype = "float32" if self.device.type == "cpu" else "float16"
        self.dtype = DTYPES[dtype]

    def prepare(self, data: RealData, seed: int) -> None:
        if data.image_shape[0] != 3:
            raise DdistError(
                f"generative={self.name} takes colour images, but those of {data.name} have "
                f"{data.image_shape[0]} channel: set dataset.channels=3."
            )
        folder = self._find(data)  # before the library, which takes seconds to import
        library = diffusers_library(f"generative={self.name}")
        config = read_config(folder / "config.json")
        if config.get("_class_name") != "AutoencoderKL":
            raise DdistError(
                f"generative={self.name} needs an AutoencoderKL, but {folder} holds a "
                f"{config.get('_class_name')}: choose another generative.model."
            )
        self.vae = read_part(
            library.AutoencoderKL, folder, torch_dtype=self.dtype, low_cpu_mem_usage=False
        )
        config = self.vae.config
        self.scale, self.shift = config.scaling_factor, config.shift_factor or 0.0
        self._image_shape = data.image_shape
        self.latent_shape = (config.latent_channels, *self._latent_sides(data.image_shape[1:]))
        settings = {key: value for key, value in config.items() if key[0] != "_"}
        weights = hash_tensors(*self.vae.state_dict().values())
        identity = [weights, settings, str(self.dtype), self.resolution]
        self._signature = signature({"vae": identity})
        self.vae.to(self.device)

    def _find(self, data: RealData) -> Path:
        """Return the autoencoder's folder; subclasses also look at what else ``data`` needs."""
        return vae_folder(self.model, self.revision)

    def _latent_sides(self, sides: tuple[int, ...]) -> list[int]:
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        sides = (self.resolution, self.resolution) if self.resolution else sides
        if any(side % factor for side in sides):
            fitting = max(1, round(max(sides) / factor)) * factor
            raise DdistError(
                f"{self.model} takes images whose sides are multiples of {factor}, not "
                f"{sides[0]}x{sides[1]} pixels: set generative.resolution={fitting} (images are "
                "resized for the model) or dataset.size."
            )
        return [side // factor for side in sides]

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        x = pixels.to(self.device)
        if self.resolution:
            x = resized(x, (self.resolution, self.resolution))
        mode = self.vae.encode((2 * x - 1).to(self.dtype)).latent_dist.mode()
        return self._finite((mode.float() - self.shift) * self.scale).to(pixels.device)

    @torch.no_grad()
    def decode(self, latents: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        z = latents.to(self.device) / self.scale + self.shift
        pixels = self._finite((self.vae.decode(z.to(self.dtype)).sample.float() + 1) / 2)
        return resized(pixels.clamp(0, 1), self._image_shape[1:]).to(latents.device)

    def _finite(self, x: Tensor) -> Tensor:
        if not x.isfinite().all():
            raise DdistError(
                f"{self} gave values that are no finite numbers: set generative.dtype=bfloat16, or "
                "float32."
            )
        return x

    @property
    def signature(self) -> str:
        return f"vae {self._signature}"

    def __str__(self) -> str:
        return f"{self.name} {self.model} in {str(self.dtype).removeprefix('torch.')}"


def resized(pixels: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize images in [0, 1] to ``size`` (bicubic, antialiased)."""
    if tuple(pixels.shape[2:]) == tuple(size):
        return pixels
    return F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 1)
