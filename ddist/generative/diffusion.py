"""Latent diffusion: prototypes are noised, and denoised as images of their classes."""

import inspect
from abc import abstractmethod
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative.pretrained import diffusers_library, pipeline_folder, read_config, read_part
from ddist.generative.vae import VAE
from ddist.settings.ranges import NonNegative, PositiveInt, Share
from ddist.storage.signature import signature


class LatentDiffusion(VAE):
    """The latents of a pipeline's autoencoder, decoded through its diffusion model: the first part
    of the sampling is skipped (SDEdit, Meng et al. 2022, arXiv 2108.01073; D4M, Su et al. 2024,
    arXiv 2407.15138),

        z_t = sqrt(alpha_t) z + sqrt(1 - alpha_t) epsilon,  t at ``strength`` of the schedule,
        z_s = step(z_t, e(z_t, nothing) + guidance (e(z_t, class) - e(z_t, nothing)))  down to 0

    (alpha_t the cumulative product that the pipeline's scheduler has; classifier-free guidance: Ho
    & Salimans 2022, arXiv 2207.12598), and what is left decodes to an image. With a strength of 0
    it is :class:`VAE`.

    Args:
        strength: the share of the schedule that is passed, 0 to 1; 1 forgets the prototype.
        guidance: the scale of the guidance, at least 1; 1 is none.
        inference_steps: of the whole schedule.
        mode_guidance: lambda. Where it is above 0 the sampling is DDPM's, and each step is led to
            the prototype m, which may then be forgotten at first (MGD3, Chan-Santiago et al. 2025,
            arXiv 2505.18963): z_s = step(z_t) + lambda sigma_t (m - z_0(z_t)), with what the step
            predicts as z_0 and the standard deviation sigma_t of its noise.
        mode_stop: the share of the schedule, at its end, that is not led.
        model, revision, resolution, batch_size, dtype, accelerator: see :class:`VAE`; the
            resolution None is what the model was trained on.

    None of the first five changes a latent.
    """

    kinds: tuple[str, ...]  # of pipelines, the first of which messages name
    denoiser: str  # the part that predicts the noise

    def __init__(
        self,
        *,
        strength: Share,
        guidance: Annotated[float, Ge(1)],  # 1 is none
        inference_steps: PositiveInt,
        mode_guidance: NonNegative,
        mode_stop: Share,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.steps_taken = round(strength * inference_steps)
        if strength > 0 and not self.steps_taken:
            raise DdistError(
                f"generative.strength={strength} of {inference_steps} steps is none: choose 0 "
                f"(no diffusion), or at least {1 / inference_steps:.2g}."
            )
        self.guidance, self.inference_steps = guidance, inference_steps
        self.mode_guidance, self.mode_stop = mode_guidance, mode_stop
        self.slow = self.steps_taken > 0

    def _find(self, data: RealData) -> Path:
        asker = f"generative={self.name}"
        self.folder = pipeline_folder(self.model, self.revision, self.kinds, asker)
        config = read_config(self.folder / self.denoiser / "config.json")
        vae = read_config(self.folder / "vae" / "config.json")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        if self.resolution is None:
            self.resolution = factor * config["sample_size"]
        self._look(data, config, vae["latent_channels"])
        return self.folder / "vae"

    @cached_property
    def decoding(self) -> str:
        """A key that also changes with the pipeline's files, the schedule that is passed, the
        guidance, the conditions of the classes and the device, whose rounding is its own."""
        files = {}
        for path in sorted(p for p in self.folder.glob("*/*") if p.parent.name in self._parts()):
            with path.open("rb") as file:
                files[f"{path.parent.name}/{path.name}"] = file_digest(file, "blake2b").hexdigest()
        modes = [self.mode_guidance, self.mode_stop] if self.mode_guidance else []
        settings = {
            "encoder": self.signature,
            "files": files,
            "schedule": [self.steps_taken, self.inference_steps, self.guidance, *modes],
            "conditions": self._described(),
            "device": self.device.type,
            "image": list(self._image_shape),
        }
        return signature(settings)

    def _parts(self) -> tuple[str, ...]:
        """Return the pipeline's folders that decoding reads, but for the autoencoder's."""
        return ("scheduler", self.denoiser)

    @abstractmethod
    def _described(self) -> Any:
        """Return what :meth:`conditions` depends on, as JSON values."""

    @abstractmethod
    def _look(self, data: RealData, config: dict[str, Any], channels: int) -> None:
        """Raise a DdistError if classes of ``data`` have no condition, or if the denoiser with the
        settings ``config`` is not for latents of so many ``channels``."""

    @abstractmethod
    def conditions(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the denoiser's conditions for images of ``classes`` [N], [N, ...], and the
        unconditional ones in their place, [N, ...]."""

    @abstractmethod
    def noise(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the denoiser's output, shaped as ``z`` [N, C, H, W], at the times ``t`` [N]."""

    @cached_property
    def scheduler(self) -> Any:
        """The pipeline's own scheduler, or DDPM's with its settings where modes lead."""
        library = diffusers_library(f"generative={self.name}")
        kind = read_config(self.folder / "model_index.json").get("scheduler", [None, None])[1]
        if not hasattr(library, str(kind)):
            raise DdistError(f"{self.folder} names no scheduler that diffusers has: {kind}.")
        folder = self.folder / "scheduler"
        if self.mode_guidance:
            return read_part(library.DDPMScheduler, folder, clip_sample=False)
        return read_part(getattr(library, kind), folder)

    def network(self, kind: str) -> Any:
        """Read the denoiser, of the class ``kind`` of diffusers."""
        library = diffusers_library(f"generative={self.name}")
        module = read_part(
            getattr(library, kind),
            self.folder / self.denoiser,
            torch_dtype=self.dtype,
            low_cpu_mem_usage=False,
        )
        return module.to(self.device)

    @torch.no_grad()
    def decode(self, latents: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        z = latents
        if self.steps_taken:
            z = self.denoised(latents.to(self.device), classes, generator)
        return super().decode(z, classes, generator).to(latents.device)

    def denoised(self, z: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Noise and denoise the latents [N, C, H, W]."""
        scheduler = self.scheduler
        scheduler.set_timesteps(self.inference_steps, device=self.device)
        begin = (self.inference_steps - self.steps_taken) * scheduler.order
        times = scheduler.timesteps[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        random = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            random["generator"] = generator
        epsilon, modes = torch.randn(z.shape, generator=generator).to(self.device), z
        z = scheduler.add_noise(z, epsilon, times[:1].expand(len(z)))
        condition, nothing = self.conditions(classes)
        for left, t in zip(reversed(range(len(times))), times, strict=True):
            x = scheduler.scale_model_input(z, t).to(self.dtype)
            output = self.guided(x, t.expand(len(z)), condition, nothing)
            step = scheduler.step(output.float(), t, z, **random)
            z = step.prev_sample
            if self.mode_guidance and left > self.mode_stop * self.inference_steps:
                way = modes - step.pred_original_sample
                z = z + self.mode_guidance * self.deviation(t, times[-left]) * way
        return z

    def deviation(self, t: Tensor, s: Tensor) -> Tensor:
        """Return the standard deviation of DDPM's noise (Ho et al. 2020) in the step from t to s:
        sigma^2 = (1 - alpha_t / alpha_s) (1 - alpha_s) / (1 - alpha_t)."""
        alphas = self.scheduler.alphas_cumprod
        at, after = alphas[t.cpu()], alphas[s.cpu()]
        return ((1 - at / after) * (1 - after) / (1 - at)).sqrt().to(self.device)

    def guided(self, x: Tensor, t: Tensor, condition: Tensor, nothing: Tensor) -> Tensor:
        """Return e(x, nothing) + guidance (e(x, condition) - e(x, nothing)), [N, C, H, W]."""
        if self.guidance == 1:
            return self.noise(x, t, condition)
        both = self.noise(torch.cat([x, x]), torch.cat([t, t]), torch.cat([nothing, condition]))
        unconditional, conditional = both.float().chunk(2)
        return unconditional + self.guidance * (conditional - unconditional)
