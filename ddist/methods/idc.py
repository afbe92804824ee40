"""Information-intensive dataset condensation (Kim et al. 2022, arXiv 2205.14959)."""

from typing import Any

import torch
from torch import Tensor

from ddist.augment.mix import Mix
from ddist.methods.dc import DC
from ddist.methods.matching import Group
from ddist.networks import Weights
from ddist.seeding import generator
from ddist.settings.auto import SMALLEST_CUT
from ddist.settings.ranges import Momentum, NonNegative, PositiveInt


class IDC(DC):
    """DC with students that are trained on real images, beside multi-formation.

        min over S of E_{theta_0 ~ p} sum_t sum_c D(g(x_real^c, theta_t), g(f(S)^c, theta_t)),
        theta_{t+1} = theta_t trained on real images with CutMix                (paper, alg. 1)

    f cuts several training images out of each stored one (``synthetic=multiformation``). Gradients
    of the last layer and of vectors do not count.

    Args:
        student_images: random real images that a student is trained on between two outer steps.
        student_momentum, student_weight_decay: of its SGD, which starts anew each time.
        synthetic_per_class: most synthetic images of a class in an outer step; None for all.
        mix: mixes the student's batches; None for none.
    """

    tiles = SMALLEST_CUT

    def __init__(
        self,
        *,
        student_images: PositiveInt,
        student_momentum: Momentum,
        student_weight_decay: NonNegative,
        synthetic_per_class: PositiveInt | None,
        mix: Mix | None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.student_images = student_images
        self.student_momentum = student_momentum
        self.student_weight_decay = student_weight_decay
        self.synthetic_per_class, self.mix = synthetic_per_class, mix

    def gradients(
        self, weights: Weights, x: Tensor, classes: Tensor, *, create_graph: bool
    ) -> list[Tensor]:
        gradients = super().gradients(weights, x, classes, create_graph=create_graph)
        pairs = zip(weights, gradients, strict=True)
        return [gradient for name, gradient in pairs if not name.startswith("head.")]

    def by_class(self, images: Tensor) -> list[Group]:
        """Group the images by class, with at most ``synthetic_per_class`` random ones of each."""
        most = self.synthetic_per_class
        stream = generator(self.seed, "synthetic", self.global_rank, self.batch_number(), 0)

        def some(x: Tensor) -> Tensor:
            if most is None or x.shape[1] <= most:
                return x
            order = torch.rand(x.shape[:2], generator=stream).argsort(1)[:, :most]
            rows = torch.arange(len(x))[:, None]
            return x[rows.to(x.device), order.to(x.device)]

        return [(classes, some(x)) for classes, x in super().by_class(images)]

    def train_students(self, weights: Weights) -> Weights:
        """Train the students [K, ...] for ``student_epochs`` epochs on random real images."""
        if not self.student_epochs:
            return weights
        (stream,) = self.streams("student images", 1)
        x, y = self.data.batch(self.student_images, stream)
        return self.fit_students(
            weights,
            x,
            y,
            self.student_epochs,
            self.streams("student", self.num_networks),
            momentum=self.student_momentum,
            weight_decay=self.student_weight_decay,
            mix=self.mix,
        )
