"""Synthetic images stored as they are, one value per pixel and channel."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.synthetic.base import SyntheticData
from ddist.synthetic.start import start_images


class Pixel(SyntheticData):
    """Images in training space, unconstrained; soft labels where they are asked for.

    Args:
        data: where ``start`` takes its images from.
        class_labels: the class of each image, int64 [N].
        generator: for what is random in ``start``.
        start: "noise", "real", "average" or "kmeans" (see :mod:`ddist.synthetic.start`).
        images: "learned" or "frozen" (only labels and step sizes are learned).
        labels: "hard" (fixed classes) or "soft" (learned probabilities, softmax of logits).
        label_logit: where the logit of an image's own class starts; the others start at 0.
    """

    def __init__(
        self,
        data: RealData,
        class_labels: Tensor,
        generator: torch.Generator,
        *,
        start: str,
        images: str,
        labels: str,
        label_logit: float,
    ) -> None:
        super().__init__()
        if images not in ("learned", "frozen"):
            raise DdistError(f"synthetic.images is learned or frozen, not {images!r}.")
        if labels not in ("hard", "soft"):
            raise DdistError(f"synthetic.labels is hard or soft, not {labels!r}.")
        first = start_images(start, data, class_labels, generator)
        self.images = nn.Parameter(first, requires_grad=images == "learned")
        self.classes: Tensor
        self.register_buffer("classes", class_labels.to(first.device))
        self.label_logits: nn.Parameter | None = None
        if labels == "soft":
            classes = one_hot(self.classes, data.num_classes).float()
            self.label_logits = nn.Parameter(label_logit * classes)

    def forward(self) -> tuple[Tensor, Tensor]:
        if self.label_logits is None:
            return self.images, self.classes
        return self.images, torch.softmax(self.label_logits, 1)
