"""Stable Diffusion: prototypes are denoised as images that a sentence describes."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative.diffusion import LatentDiffusion
from ddist.generative.imagenet import are_numbers, names_of_all
from ddist.generative.pretrained import read_part


class StableDiffusion(LatentDiffusion):
    """A latent diffusion model that is conditioned on text (Rombach et al. 2022, arXiv 2112.10752),
    as D4M and DDOQ use it.

    Args:
        prompt: describes an image; its ``{}`` is the name of the class.
        negative_prompt: what the guidance leads away from.
        class_names: of the dataset's classes, in their order; None for the dataset's own, without
            underscores, or ImageNet's where the dataset has its thousand numbers (n01440764, ...).
        strength, guidance, inference_steps: see :class:`LatentDiffusion`.
    """

    name = "stable_diffusion"
    kinds = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    denoiser = "unet"

    def __init__(
        self,
        *,
        prompt: str,
        negative_prompt: str,
        class_names: Sequence[str] | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if "{}" not in prompt:
            raise DdistError(
                f"generative.prompt={prompt!r} has no place for the name of the class: write {{}} "
                "there, such as 'a photo of a {}'."
            )
        self.prompt, self.negative_prompt, self.class_names = prompt, negative_prompt, class_names

    def _look(self, data: RealData, config: dict[str, Any], channels: int) -> None:
        if config["in_channels"] != channels:
            raise DdistError(
                f"The network of {self.model} takes {config['in_channels']} channels instead of "
                f"the {channels} of a latent, so it is for another task (inpainting, say): choose "
                "another generative.model."
            )
        names = find_names(self.class_names, data)
        self.prompts = [self.prompt.replace("{}", name) for name in names]

    @cached_property
    def unet(self) -> Any:
        return self.network("UNet2DConditionModel")

    @cached_property
    def text(self) -> tuple[Any, Any]:
        """The tokenizer and the text encoder."""
        from transformers import CLIPTextModel, CLIPTokenizer

        encoder = read_part(CLIPTextModel, self.folder / "text_encoder", dtype=self.dtype)
        return read_part(CLIPTokenizer, self.folder / "tokenizer"), encoder.to(self.device)

    def embedded(self, prompts: Sequence[str]) -> Tensor:
        """Return the text encoder's last hidden states [N, L, D] of the prompts."""
        tokenizer, encoder = self.text
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states: Tensor = encoder(tokens.input_ids.to(self.device)).last_hidden_state
        return states

    def conditions(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        present, place = classes.cpu().unique(return_inverse=True)
        prompts = [self.prompts[c] for c in present.tolist()]
        condition = self.embedded(prompts)[place.to(self.device)]
        return condition, self.embedded([self.negative_prompt]).expand_as(condition)

    def _parts(self) -> tuple[str, ...]:
        return (*super()._parts(), "tokenizer", "text_encoder")

    def _described(self) -> Any:
        return [self.prompts, self.negative_prompt]

    def noise(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        noise: Tensor = self.unet(z, t, encoder_hidden_states=condition).sample
        return noise


def find_names(class_names: Sequence[str] | None, data: RealData) -> list[str]:
    """Return what the prompt calls the classes of ``data``; see :class:`StableDiffusion`."""
    if class_names is not None:
        if isinstance(class_names, str) or len(class_names) != data.num_classes:
            raise DdistError(
                f"generative.class_names has to name the {data.num_classes} classes of "
                f"{data.name}, in their order, not {class_names!r}."
            )
        return [str(name) for name in class_names]
    if are_numbers(data.class_names):
        names = names_of_all(data.class_names)
        if names is None:
            raise DdistError(
                f"The classes of {data.name} are called by numbers of ImageNet "
                f"({data.class_names[0]}, ...), which say nothing to a text encoder: name them in "
                "that order, such as generative.class_names=[tench,...]."
            )
        return names
    return [name.replace("_", " ") for name in data.class_names]
