"""From pixels to the space in which networks and synthetic images live, and back again."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ddist.errors import DdistError

State = dict[str, Tensor | str]


def to_unit(pixels: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]; float pixels are taken to be in [0, 1] already."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


class Normalization(ABC):
    """An invertible map between pixels and training space, on batches [N, C, H, W]."""

    @abstractmethod
    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels (uint8, or float in [0, 1]) to training space, float32."""

    @abstractmethod
    def inverse(self, x: Tensor) -> Tensor:
        """Map training space to pixels, float32, where [0, 1] is what a screen shows; not
        clamped."""

    @abstractmethod
    def state(self) -> State:
        """Return all that is needed to rebuild it: ``kind`` and tensors."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Normalization":
        """Return the same map with its tensors on ``device``."""

    @staticmethod
    def from_state(state: State) -> "Normalization":
        """Rebuild what :meth:`state` described."""
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        try:
            match state.get("kind"):
                case "none":
                    return Unit()
                case "mean_std":
                    return MeanStd(tensors["mean"], tensors["std"])
                case "zca":
                    return Zca(tensors["mean"], tensors["whiten"])
        except KeyError as missing:
            raise DdistError(
                f"The normalisation {state.get('kind')!r} lacks its tensor {missing}."
            ) from None
        raise DdistError(
            f"Unknown normalisation {state.get('kind')!r}: expected none, mean_std or zca."
        )


class Unit(Normalization):
    """Pixels in [0, 1] as they are (``normalize: none``)."""

    def __call__(self, pixels: Tensor) -> Tensor:
        return to_unit(pixels)

    def inverse(self, x: Tensor) -> Tensor:
        return x.float()

    def state(self) -> State:
        return {"kind": "none"}

    def to(self, device: torch.device | str) -> "Unit":
        return self


class MeanStd(Normalization):
    """(pixel - mean) / std for each channel; ``mean`` and ``std`` are float32 [C]."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean.float(), std.float()
        self._mean, self._std = self.mean.view(-1, 1, 1), self.std.view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        return (to_unit(pixels) - self._mean) / self._std

    def inverse(self, x: Tensor) -> Tensor:
        return x.float() * self._std + self._mean

    def state(self) -> State:
        return {"kind": "mean_std", "mean": self.mean, "std": self.std}

    def to(self, device: torch.device | str) -> "MeanStd":
        return MeanStd(self.mean.to(device), self.std.to(device))


class Zca(Normalization):
    """Whitening: (flattened pixels - mean) @ whiten; see :mod:`ddist.data.whitening`.

    ``mean`` is float32 [D], ``whiten`` float32 [D, D], symmetric. The way back is computed when
    first asked for and never stored: at 32x32x3 it would add 38 MB to every artifact.
    """

    def __init__(self, mean: Tensor, whiten: Tensor) -> None:
        self.mean, self.whiten = mean.float(), whiten.float()
        self._unwhiten: Tensor | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        flat = to_unit(pixels).flatten(1) - self.mean
        return _matmul(flat, self.whiten).view(pixels.shape)

    def inverse(self, x: Tensor) -> Tensor:
        if self._unwhiten is None:
            self._unwhiten = torch.linalg.inv(self.whiten.double()).float()
        return (_matmul(x.float().flatten(1), self._unwhiten) + self.mean).view(x.shape)

    def state(self) -> State:
        return {"kind": "zca", "mean": self.mean, "whiten": self.whiten}

    def to(self, device: torch.device | str) -> "Zca":
        return Zca(self.mean.to(device), self.whiten.to(device))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    # Under bf16-mixed a product of whitened pixels would lose most of its digits.
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
