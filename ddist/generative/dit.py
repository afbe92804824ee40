"""DiT: prototypes are denoised as images of one of ImageNet's classes."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative.diffusion import LatentDiffusion
from ddist.generative.imagenet import are_all
from ddist.generative.pretrained import read_config


class DiT(LatentDiffusion):
    """A diffusion transformer that is conditioned on classes (Peebles & Xie 2023, arXiv
    2212.09748), as DDOQ uses it.

    Args:
        class_ids: the model's number of each of the dataset's classes, in their order; None to find
            them: the dataset's own order where its classes are ImageNet's thousand numbers
            (n01440764, ...), or by the names that the pipeline knows.
        strength, guidance, inference_steps: see :class:`LatentDiffusion`.
    """

    name = "dit"
    kinds = ("DiTPipeline",)
    denoiser = "transformer"

    def __init__(self, *, class_ids: Sequence[int] | None, **options: Any) -> None:
        super().__init__(**options)
        self.class_ids = class_ids

    def _look(self, data: RealData, config: dict[str, Any], channels: int) -> None:
        factor = len(read_config(self.folder / "vae" / "config.json")["block_out_channels"]) - 1
        side = config["sample_size"] * 2**factor
        if config["in_channels"] != channels or self.resolution != side:
            raise DdistError(
                f"{self.model} denoises latents of {config['in_channels']} channels of images of "
                f"{side}x{side} pixels: leave generative.resolution out."
            )
        self.num_known = config["num_embeds_ada_norm"]
        named = read_config(self.folder / "model_index.json").get("id2label") or {}
        self.ids = torch.tensor(find_ids(self.class_ids, data, named, self.num_known))

    @cached_property
    def transformer(self) -> Any:
        return self.network("DiTTransformer2DModel")

    def conditions(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        ids = self.ids[classes.cpu()].to(self.device)
        return ids, torch.full_like(ids, self.num_known)  # one more than there are: no class

    def _described(self) -> Any:
        return self.ids.tolist()

    def noise(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        matches: Tensor = self.transformer(z, timestep=t, class_labels=condition).sample
        return matches[:, : z.shape[1]]  # the rest is the learned variance


def find_ids(
    chosen_ids: Sequence[int] | None, data: RealData, named: Mapping[str, str], num_known: int
) -> list[int]:
    """Return the numbers of the classes of ``data`` among ``num_known``, some of which are
    ``named`` ("tench, Tinca tinca"); see :class:`DiT`."""
    remedy = (
        f"name the model's numbers (0 to {num_known - 1}) of the {data.num_classes} classes of "
        f"{data.name}, in their order, with generative.class_ids=[...]"
    )
    if chosen_ids is not None:
        numbers = [] if isinstance(chosen_ids, str) else list(chosen_ids)
        known = all(type(n) is int and 0 <= n < num_known for n in numbers)
        if not known or len(numbers) != data.num_classes or len(set(numbers)) != len(numbers):
            raise DdistError(f"generative.class_ids={chosen_ids} does not do: {remedy}.")
        return numbers
    if are_all(data.class_names) and num_known == data.num_classes:
        return list(range(num_known))
    by_name: dict[str, set[int]] = {}
    for number, names in named.items():
        for name in names.split(","):
            by_name.setdefault(name.strip().lower(), set()).add(int(number))
    matches = [by_name.get(name.replace("_", " ").lower(), set()) for name in data.class_names]
    for name, numbers_found in zip(data.class_names, matches, strict=True):
        if len(numbers_found) != 1:
            what = "several classes" if numbers_found else "no class"
            raise DdistError(f"The model knows {what} called {name!r}: {remedy}.")
    return [number for numbers_of_class in matches for number in numbers_of_class]
