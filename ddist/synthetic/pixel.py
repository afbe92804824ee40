"""Synthetic images stored as pixels: one training image in each, or several small ones."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ddist.artifact.multiformation import check_factor, compose, expand
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.settings.ranges import PositiveInt
from ddist.synthetic.base import SyntheticData
from ddist.synthetic.earlier import read_earlier, soft_logits
from ddist.synthetic.start import Scarce, earlier_folder, start_images
from ddist.synthetic.steps import StepSizes


class Pixel(SyntheticData):
    """Images in training space; soft labels where they are asked for.

    With a ``factor`` f above 1 each stored image holds f x f training images (multi-formation, Kim
    et al. 2022; see :mod:`ddist.artifact.multiformation`): :meth:`forward` gives N f^2 of them.

    Args:
        data: where ``start`` takes its images from.
        class_labels: the class of each image, int64 [N].
        generator: for what is random in ``start``.
        step_sizes: learned with the images, where there are any.
        start: "noise", "real", "average" or "kmeans" (see :mod:`ddist.synthetic.start`), or the
            folder of a distilled set (see :mod:`ddist.synthetic.earlier`), whose labels are taken
            where labels are learned.
        images: "learned" or "frozen" (only labels and step sizes are learned).
        labels: "hard" (fixed classes), "soft" (learned probabilities, softmax of logits), "given"
            (the same, but as the method's teachers give them and not learned), "free" (learned
            numbers that start at the classes, for methods of regression) or "solved" (the same, but
            as the method solves for them).
        label_logit: where the logit of an image's own class starts; the others start at 0.
        factor: f.
        bounded: whether images stay within the range of pixels, [0, 1], after each outer step.
        scarce: what a start from real images does with a class that has too few: "refuse",
            "repeat" or "fewer" (see :func:`ddist.synthetic.start.start_images`).
    """

    own_classes: Tensor

    def __init__(
        self,
        data: RealData,
        class_labels: Tensor,
        generator: torch.Generator,
        step_sizes: StepSizes | None = None,
        *,
        start: str,
        images: Literal["learned", "frozen"],
        labels: Literal["hard", "soft", "given", "free", "solved"],
        label_logit: float,
        factor: PositiveInt,
        bounded: bool,
        scarce: Scarce,
    ) -> None:
        super().__init__(step_sizes)
        check_factor(factor, data.image_shape)
        self.factor = factor
        self.labelled_each = factor**2  # training images that share a label
        if folder := earlier_folder(start):
            self.earlier = read_earlier(folder, data, class_labels, factor)
            first = self.earlier.images
        else:
            every = class_labels.repeat_interleave(factor**2)
            first = compose(start_images(start, data, every, generator, scarce), factor)
        self.images = nn.Parameter(first, requires_grad=images == "learned")
        self.register_buffer("own_classes", class_labels.to(first.device))
        self.register_buffer("classes", self.own_classes.repeat_interleave(factor**2))
        self._range = data.normalization if bounded else None
        self.label_logits: nn.Parameter | None = None
        self.free_labels: nn.Parameter | None = None
        self.label_kind = labels
        classes = one_hot(self.own_classes, data.num_classes).float()
        if labels in ("soft", "given"):
            learned = labels == "soft"
            self.label_logits = nn.Parameter(label_logit * classes, requires_grad=learned)
            self._label_logit = label_logit
        if labels in ("free", "solved"):
            self.free_labels = nn.Parameter(classes, requires_grad=labels == "free")
        if self.earlier is not None and self.earlier.labels is not None and self.takes_labels():
            with torch.no_grad():
                if self.label_logits is not None:
                    self.label_logits.copy_(soft_logits(self.earlier.labels))
                if self.free_labels is not None:
                    self.free_labels.copy_(self.earlier.labels)
        if self.earlier is not None:
            self._take_step_sizes(self.earlier)

    def forward(self) -> tuple[Tensor, Tensor]:
        images, labels = self.stored()
        return expand(images, self.factor), labels.repeat_interleave(self.factor**2, 0)

    def stored(self) -> tuple[Tensor, Tensor]:
        images = self.shown()
        if self.free_labels is not None:
            return images, self.free_labels
        if self.label_logits is not None:
            return images, torch.softmax(self.label_logits, 1)
        return images, self.own_classes

    def shown(self) -> Tensor:
        """Return the stored images [N, C, H, W] of what is learned."""
        return self.images

    def show(self, images: Tensor) -> None:
        """Have what is learned give these training images [M, C, H, W]."""
        self.images.copy_(compose(images, self.factor))

    @torch.no_grad()
    def begin(
        self,
        images: Tensor | None = None,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        if images is not None and self.earlier is None:
            self.show(images)
        if logits is not None and self.label_logits is None:
            raise DdistError(
                "The experts' labels are soft: set synthetic.labels=soft (learned) or given."
            )
        if self.takes_labels():
            return
        if logits is not None and self.label_logits is not None:
            self.label_logits.copy_(logits.unflatten(0, (-1, self.labelled_each)).mean(1))
        if labels is not None:
            assert self.free_labels is not None, "only free labels are any numbers"
            self.free_labels.copy_(labels.unflatten(0, (-1, self.labelled_each)).mean(1))

    @torch.no_grad()
    def relabel(self, wanted: Callable[[Tensor], Tensor]) -> None:
        self.own_classes = wanted(self.own_classes)  # not in place: whoever gave them keeps them
        if self.label_logits is not None and not self.takes_labels():
            classes = one_hot(self.own_classes, self.label_logits.shape[1])
            self.label_logits.copy_(self._label_logit * classes)

    @torch.no_grad()
    def project(self) -> None:
        if self._range is not None:
            space = self._range.to(self.images.device)
            self.images.copy_(space(space.inverse(self.images).clamp(0, 1)))
