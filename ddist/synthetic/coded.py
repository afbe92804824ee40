"""Synthetic images that are learned, and stored, as something else than their pixels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ddist.artifact.codes import Code, Codes
from ddist.artifact.codes.base import with_mirrors
from ddist.artifact.multiformation import compose
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.settings.ranges import Positive, PositiveInt
from ddist.synthetic.pixel import Pixel
from ddist.synthetic.start import sample

_SAMPLE = 2000  # real images that show a code what is worth its bytes


class Coded(Pixel):
    """More images in the bytes of as many: ``copies`` of them, and with ``mirror`` as many mirror
    images, for each image of pixels that ``ipc`` asks for. They are decoded from what is learned,
    which starts at the code that comes closest to the images of ``start``.

    Args:
        data, ...: see :class:`ddist.synthetic.pixel.Pixel`.
        class_labels: the class of each image of pixels whose bytes are to be used, int64 [N].
        code: how images are stored.
        copies: images in the bytes of one; their labels come on top.
        mirror: whether each also stands mirrored, at no further bytes but its label's.
        rate: how far the code moves in a step at an outer learning rate of 1: codes are learned
            divided by it.
    """

    def __init__(
        self,
        data: RealData,
        class_labels: Tensor,
        generator: torch.Generator,
        *args: Any,
        code: Code,
        copies: PositiveInt,
        mirror: bool,
        rate: Positive,
        bounded: bool,
        **options: Any,
    ) -> None:
        if bounded:
            raise DdistError(
                "synthetic.bounded=true keeps pixels within their range, and these images are "
                "stored as something else: set synthetic.bounded=false, or synthetic=pixel."
            )
        if mirror and not data.mirror:
            raise DdistError(
                f"A mirrored image of {data.name} is of another class (dataset.mirror=false): set "
                "synthetic.mirror=false, or choose another parametrisation than mirrored."
            )
        own = class_labels.repeat_interleave(copies)
        super().__init__(data, own, generator, *args, bounded=False, **options)
        first, learned = self.images.detach(), self.images.requires_grad
        del self.images
        self.code, self.mirror, self._rate = code, mirror, rate
        self._shape = tuple(first.shape[1:])
        views = 2 if mirror else 1
        self.stored_each, self.labelled_each = copies * views, views * self.factor**2
        self.classes = self.own_classes.repeat_interleave(self.labelled_each)
        num_bytes = first[0].nbytes * len(class_labels)

        def encode(images: Tensor) -> dict[str, Tensor]:
            real = data.normalization(sample(data, _SAMPLE)).to(images)
            tensors = code.encode(images, num_bytes, real)
            assert sum(value.nbytes for value in tensors.values()) <= num_bytes
            return tensors

        self._encode: Callable[[Tensor], dict[str, Tensor]] = encode
        self.codes = nn.ParameterDict()
        for name, value in encode(first).items():
            if value.is_floating_point():
                self.codes[name] = nn.Parameter(value / rate, requires_grad=learned)
            else:
                self.codes[name] = nn.Parameter(value, requires_grad=False)

    def stored(self) -> tuple[Tensor, Tensor]:
        images, labels = super().stored()
        return with_mirrors(images, self.mirror), labels.repeat_interleave(1 + self.mirror, 0)

    def shown(self) -> Tensor:
        tensors = self._tensors()
        with torch.autocast(self.own_classes.device.type, enabled=False):  # as it is decoded later
            return self.code.decode(tensors, self._shape)

    def show(self, images: Tensor) -> None:
        own = images.unflatten(0, (-1, 1 + self.mirror, self.factor**2))[:, 0].flatten(0, 1)
        for name, value in self._encode(compose(own, self.factor)).items():
            self.codes[name].copy_(value / self._rate if value.is_floating_point() else value)

    def file(self) -> Codes:
        """Return what is stored in the place of the images."""
        tensors = {name: value.detach().cpu() for name, value in self._tensors().items()}
        return Codes(self.code.name, self.mirror, tensors)

    def project(self) -> None:
        """Do nothing: codes have no range."""

    def _tensors(self) -> dict[str, Tensor]:
        return {
            name: value * self._rate if value.is_floating_point() else value
            for name, value in self.codes.items()
        }
