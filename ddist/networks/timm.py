"""Any network of the timm library, by its name."""

from typing import Any

from torch import Tensor, nn

from ddist.errors import DdistError
from ddist.networks.base import ImageShape, Network


class Timm(Network):
    """timm's network ``model`` without its classifier, under a linear head.

    ``options`` go to ``timm.create_model``. Fresh weights of the body come from timm's own
    distribution, whatever the scheme; the head follows the scheme.

    Raises:
        DdistError: timm is not installed, does not know the model, or refuses the image size.
    """

    def __init__(
        self,
        num_classes: int,
        image_shape: ImageShape,
        model: str,
        options: dict[str, Any] | None,
    ) -> None:
        channels, height, width = image_shape
        arguments = {"num_classes": 0, "in_chans": channels, **(options or {})}
        if _takes_image_size(model):
            arguments.setdefault("img_size", (height, width))
        try:
            super().__init__(_Body(model, arguments), num_classes, image_shape)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise DdistError(
                f"timm's {model} cannot be built for {channels}x{height}x{width} images: {error}; "
                "set dataset.size, or network.options for timm.create_model."
            ) from error


class _Body(nn.Module):
    def __init__(self, model: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self._recipe = (model, arguments)
        self.model = self._create()

    def _create(self) -> nn.Module:
        name, arguments = self._recipe
        model: nn.Module = timm_library().create_model(name, **arguments)
        for layer in model.modules():
            # In-place sums break torch.func; fused attention has no second derivative.
            for option in ("inplace", "fused_attn"):
                if hasattr(layer, option):
                    setattr(layer, option, False)
        return model

    def reset_parameters(self) -> None:
        self.model.load_state_dict(self._create().state_dict())

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.model(x)
        return features


def _takes_image_size(model: str) -> bool:
    """Tell whether the network (a vision transformer, say) is made for one image size."""
    timm = timm_library()
    if not timm.is_model(model.split(".")[0]):
        raise DdistError(
            f"timm has no model {model!r}: set network.model to one of timm.list_models()."
        )
    config = timm.get_pretrained_cfg(model)
    return config is not None and bool(config.fixed_input_size)


def timm_library(asker: str = "network=timm", extra: str = "timm") -> Any:
    """Import timm. Raises DdistError, which names ``asker`` and the ``extra`` that has it, if it is
    not installed."""
    try:
        import timm
    except ImportError as error:
        raise DdistError(
            f"{asker} needs the timm library, which is not installed: pip install ddist[{extra}]."
        ) from error
    return timm
