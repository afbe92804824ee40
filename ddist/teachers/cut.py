"""A published network of more classes as a teacher: of its classes, those of the dataset."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddist.artifact.normalization import MeanStd
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.networks.published import own_normalization, per_channel, published
from ddist.settings.ranges import Positive, PositiveInt
from ddist.teachers.base import Teacher

IMAGENET_PLACES = {
    "n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497,
    "n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701,
    "n02086240": 155, "n02087394": 159, "n02088364": 162, "n02089973": 167, "n02093754": 182,
    "n02096294": 193, "n02099601": 207, "n02105641": 229, "n02111889": 258, "n02115641": 273,
}  # fmt: skip
"""Where classes are among ImageNet's 1,000: those of ImageNette and ImageWoof, by their numbers in
WordNet, which their folders are called by."""


class Cut(Teacher):
    """timm's network ``model`` with its published weights, of whose logits those of the dataset's
    classes are kept.

    Args:
        source: the data that it is asked about.
        model, weights: see :func:`ddist.networks.published.published`.
        classes: of the network, one for each of the dataset's, in that order: their numbers, or
            names among ``class_names``; None where the dataset's are called by the numbers that
            ``IMAGENET_PLACES`` has, or are all of the network's.
        class_names: of the network, in the order of its logits; None where ``classes`` are numbers.
        mean, std: of its own pixels, per channel; None for what is published.
        size: pixels of a side that images are resized to; None for their own.
    """

    def __init__(
        self,
        *,
        source: RealData,
        model: str,
        weights: str | None,
        classes: Sequence[int | str] | None,
        class_names: Sequence[str] | None,
        mean: Sequence[float] | None,
        std: Sequence[Positive] | None,
        size: PositiveInt | None,
    ) -> None:
        network = deepcopy(published(model, weights))
        for layer in network.modules():
            if hasattr(layer, "inplace"):  # inputs of batch normalisation are looked at
                layer.inplace = False  # type: ignore[assignment]
        super().__init__(network, source)
        own_mean, own_std = own_normalization(model, weights)
        self._space = MeanStd(
            per_channel("teacher.mean", own_mean if mean is None else mean),
            per_channel("teacher.std", own_std if std is None else std),
        )
        self.size = size
        self._places = places(network, source, classes, class_names)

    def load(self, network: nn.Module) -> None:
        """Do nothing: it has its weights."""

    @cached_property
    def places(self) -> Tensor:
        """Where the dataset's classes are among the network's, int64 [K]."""
        return torch.tensor(self._places, device=self.source.device)

    def prepare(self, x: Tensor) -> Tensor:
        pixels = self.source.normalization.inverse(x).expand(-1, 3, -1, -1)
        if self.size is not None and self.size != pixels.shape[2]:
            size = (self.size, self.size)
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return self._space.to(x.device)(pixels)

    def arrange(self, logits: Tensor) -> Tensor:
        return logits[:, self.places.to(logits.device)]


def places(
    network: nn.Module,
    source: RealData,
    classes: Sequence[int | str] | None,
    class_names: Sequence[str] | None,
) -> list[int]:
    """Return where the classes of ``source`` are among the network's. Raises DdistError."""
    with torch.no_grad():
        num = network(torch.zeros(1, 3, 64, 64)).shape[1]
    if classes is None:
        if all(name in IMAGENET_PLACES for name in source.class_names) and num == 1000:
            return [IMAGENET_PLACES[name] for name in source.class_names]
        if num == source.num_classes:
            return list(range(num))
        raise DdistError(
            f"Which of the teacher's {num} classes are the {source.num_classes} of {source.name} "
            f"({', '.join(source.class_names[:3])} …)? Say so with teacher.classes: a number for "
            "each, in this order."
        )
    known = list(class_names or [])
    found = [known.index(each) if each in known else each for each in classes]
    wrong = [each for each in found if not (isinstance(each, int) and 0 <= each < num)]
    if wrong or len(found) != source.num_classes or len(set(found)) < len(found):
        raise DdistError(
            f"teacher.classes names a class of the teacher's {num} for each of the "
            f"{source.num_classes} of {source.name}, all different: numbers from 0 to {num - 1}, "
            f"or names among teacher.class_names, not {list(classes)}."
        )
    return [int(each) for each in found]
