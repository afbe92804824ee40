"""A published network that is kept as it is, below a linear head of one's own."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddist.artifact.normalization import Normalization
from ddist.errors import DdistError
from ddist.networks.base import ImageShape, Network
from ddist.networks.folding import folded
from ddist.networks.published import own_normalization, per_channel, published
from ddist.settings.ranges import Positive, PositiveInt

LEAST_SIDE = 96
"""Pixels to which smaller images are enlarged, where nobody says otherwise: below, networks that
were made for 224 have no more than a few places left in their last layers."""


class Backbone(Network):
    """timm's network ``model`` with its published weights, without its classifier, below a linear
    head. It takes images in the dataset's training space and brings them into its own.

    Args:
        normalization: the dataset's, which is undone.
        model: timm's name of it.
        weights: a file of them; None for the installed package's, or those of timm's hub (see
            :func:`ddist.networks.published.published`).
        size: pixels of a side that images are resized to (bilinearly, without aliasing); None for
            the images' own, but no fewer than ``LEAST_SIDE`` and no more than it was trained on.
        mean, std: of its own pixels, per channel; None for what is published.
        learned: "head": all else is fixed, and no parameter; or "all", but batch normalisation.

    Raises:
        DdistError: it, its weights, size or normalisation do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        image_shape: ImageShape,
        normalization: Normalization,
        *,
        model: str,
        weights: str | None,
        size: PositiveInt | None,
        mean: Sequence[float] | None,
        std: Sequence[Positive] | None,
        learned: Literal["head", "all"],
    ) -> None:
        if image_shape[0] not in (1, 3):
            raise DdistError(
                f"network=backbone takes images of 1 or 3 channels, not of {image_shape[0]}: set "
                "dataset.channels=3."
            )
        network = published(model, weights)
        config = cast(dict[str, Any], network.pretrained_cfg)
        side = _side(model, config, size, image_shape)
        own_mean, own_std = own_normalization(model, weights)
        body = _Body(
            _without_classifier(network, side, learned),
            normalization,
            side,
            per_channel("network.mean", own_mean if mean is None else mean),
            per_channel("network.std", own_std if std is None else std),
        )
        super().__init__(body, num_classes, image_shape)
        self.model, self.learned = model, learned

    def extra_repr(self) -> str:
        """Name the model, for the signatures of what is made with it."""
        return f"{self.model}, learned={self.learned}"


class _Body(nn.Module):
    """From images in training space to features, always in evaluation mode."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, space: Normalization, side: int, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        self.model, self._space, self.side = model, space, side
        learned = next(model.parameters(), None) is not None
        # The order in memory in which a CPU is quicker, but which torch.func.vmap does not know.
        self._order = torch.contiguous_format if learned else torch.channels_last
        model.to(memory_format=self._order)
        self.register_buffer("mean", mean.view(3, 1, 1))
        self.register_buffer("std", std.view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self._space.to(x.device).inverse(x).expand(-1, 3, -1, -1)
        if tuple(pixels.shape[2:]) != (self.side, self.side):
            size = (self.side, self.side)
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        own = (pixels - self.mean) / self.std
        features: Tensor = self.model(own.contiguous(memory_format=self._order))
        return features

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: published statistics and no dropout, whatever is trained."""
        return super().train(False)

    def extra_repr(self) -> str:
        return f"{self.side} pixels"


def _without_classifier(network: nn.Module, side: int, learned: str) -> nn.Module:
    """Return a copy that gives features; its weights are no parameters, unless ``learned``."""
    from timm.utils.model import freeze_batch_norm_2d

    body = deepcopy(network)
    body.reset_classifier(0)  # type: ignore[operator]
    for layer in body.modules():
        # In-place sums break torch.func; fused attention has no second derivative.
        for option in ("inplace", "fused_attn"):
            if hasattr(layer, option):
                setattr(layer, option, False)
    if learned == "head":
        generator = torch.Generator().manual_seed(0)
        body = folded(body, torch.randn(2, 3, side, side, generator=generator))
    body = freeze_batch_norm_2d(body)
    if learned == "head":
        _as_buffers(body)
    frozen: nn.Module = body.eval()
    return frozen


def _as_buffers(model: nn.Module) -> None:
    """Make buffers of all parameters, as only what is learned is a Parameter."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())


def _side(model: str, config: dict[str, Any], size: int | None, image_shape: ImageShape) -> int:
    """Return the pixels of a side that images get."""
    trained = int(config["input_size"][-1])
    if config.get("fixed_input_size"):
        if size not in (None, trained):
            raise DdistError(
                f"timm's {model} takes images of {trained} pixels alone: leave network.size out."
            )
        return trained
    return size or min(max(LEAST_SIDE, *image_shape[1:]), trained)
