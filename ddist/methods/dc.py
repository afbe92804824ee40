"""Gradient matching: DC (Zhao, Mopuri & Bilen 2021, arXiv 2006.05929) and, with augmentation, DSA
(Zhao & Bilen 2021, arXiv 2102.08259)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from ddist.errors import DdistError
from ddist.inner.stacking import Stacked, choose_stacked
from ddist.matching.gradient import DistanceName, distance_by_name
from ddist.methods.students import AlongStudents, Students
from ddist.networks import Weights
from ddist.settings.ranges import NonNegativeInt, PositiveInt


class DC(AlongStudents):
    """Images on which a student has, class by class, the gradients that it has on real images.

        min over S of  E_{theta_0 ~ p} sum_t sum_c D(g(x_real^c, theta_t), g(x_syn^c, theta_t)),
        g(x, theta) = grad_theta l(A(x), theta),   theta_{t+1} = theta_t trained on S

    (paper, eq. 7-10). ``updates`` outer steps (t) are made along one student, which is trained
    between them; then comes a fresh one. With ``sum_classes`` the sum over classes is within D, of
    their gradients, so that what tells classes apart counts (DCC, Lee et al. 2022, arXiv
    2202.02916).

    Args:
        distance: D, see :mod:`ddist.matching.gradient`.
        updates: outer steps per student, the paper's outer loop.
        student_epochs: epochs between them, the paper's inner loop.
        sum_classes: whether gradients are summed over the classes before they are compared.
    """

    supports_fp16 = False
    stacked: Stacked = "auto"
    """Whether the gradients of all classes come from one call (see :mod:`ddist.inner.stacking`)."""

    def __init__(
        self,
        *,
        distance: DistanceName,
        updates: PositiveInt,
        student_epochs: NonNegativeInt,
        sum_classes: bool,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.distance = distance_by_name(distance)
        self.updates, self.student_epochs = updates, student_epochs
        self.sum_classes = sum_classes
        if sum_classes and len(set(self.images_per_class)) > 1:
            raise DdistError(
                "method.sum_classes=true needs equally many images of each class: set "
                "synthetic.scarce=repeat, or choose a smaller ipc."
            )

    def parts(self, x_syn: Tensor, num_real: int) -> Sequence[Tensor]:
        """Return all classes as one part where their gradients are summed."""
        if self.sum_classes:
            return [torch.arange(len(x_syn))]
        return super().parts(x_syn, num_real)

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
        labels = classes.to(x_syn.device)
        real = self.gradients(weights, x_real, labels, create_graph=False)
        synthetic = self.gradients(weights, x_syn, labels, create_graph=True)
        if self.sum_classes:
            real, synthetic = ([g.sum(0, keepdim=True) for g in side] for side in (real, synthetic))
        return self.distance(real, synthetic)

    def gradients(
        self, weights: Weights, x: Tensor, classes: Tensor, *, create_graph: bool
    ) -> list[Tensor]:
        """Compute the gradient of the mean loss on each class's images [k, M, C, H, W]: one tensor
        [k, *parameter] for each parameter."""
        if choose_stacked(self.network, self.stacked, x.shape[1], x.device.type):
            of_each = vmap(grad(partial(class_loss, self.network)), in_dims=(None, 0, 0))
            with torch.set_grad_enabled(create_graph):
                return list(of_each(weights, x, classes).values())
        of_class = self.synthetic_gradient if create_graph else self.real_gradient
        rows = [of_class(weights, images, y) for images, y in zip(x, classes, strict=True)]
        return [torch.stack(gradient) for gradient in zip(*rows, strict=True)]

    def synthetic_gradient(self, weights: Weights, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Compute the mean loss's gradient on images [M, C, H, W] of class y [], with its graph."""
        loss = class_loss(self.network, weights, x, y)
        return torch.autograd.grad(loss, list(weights.values()), create_graph=True)

    def real_gradient(self, weights: Weights, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Compute that gradient without a graph, part by part, so that few activations are held."""
        loss, leaves = self.fast(class_loss), list(weights.values())
        total = [torch.zeros_like(leaf) for leaf in leaves]
        for chunk in self.real_parts(x):
            share = len(chunk) / len(x)
            gradients = torch.autograd.grad(loss(self.network, weights, chunk, y) * share, leaves)
            total = [t + g for t, g in zip(total, gradients, strict=True)]
        return total

    def next_students(self, before: Students | None) -> Students:
        """Draw students every ``updates`` steps; in between, train them on the synthetic images."""
        if before is None or self.global_step % self.updates == 0:
            return Students(self.global_step, self.draw_networks(self.num_networks))
        return Students(self.global_step, self.train_students(before.weights))

    def train_students(self, weights: Weights) -> Weights:
        """Train the students [K, ...] for ``student_epochs`` epochs on the synthetic images."""
        streams = self.streams("student", self.num_networks)
        return self.fit_synthetic(weights, self.student_epochs, streams)


def class_loss(network: nn.Module, weights: Weights, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of images [M, C, H, W] of one class, y []."""
    return cross_entropy(functional_call(network, weights, (x,)), y.expand(len(x)))
