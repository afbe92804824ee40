"""Kernel Inducing Points (Nguyen, Chen & Lee 2021, arXiv 2011.00050; Nguyen, Novak, Xiao & Lee
2021, arXiv 2107.13034)."""

from collections.abc import Iterator
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ddist.errors import DdistError
from ddist.kernels import Kernel
from ddist.matching.kernel import krr_loss, solve_labels, targets
from ddist.methods.base import Method
from ddist.settings.ranges import NonNegative

_AT_ONCE = 5000  # training images in the solution for the labels: pixels held as floats


class KIP(Method):
    """Images (and labels) from which kernel ridge regression predicts the labels of real images.

        min over (x_s, y_s) of E 1/2 mean | y_t - K_ts (K_ss + lambda tr(K_ss)/n I)^-1 y_s |^2

    (first paper, eq. 7) for the kernel K of an infinitely wide network, so that no network is
    trained. The real images (x_t, y_t) of an outer step are as many of each class; its batch is
    their indices, [K, B]. Labels are centred: y - 1/K.

    With ``synthetic.labels=free`` the y_s are learned too. With "solved" they are, at every outer
    step, the ones with the least squared error on its real images, where the gradient in them
    vanishes; those of the artifact solve it on all training images (the papers' Label Solve, for
    which ``synthetic.images=frozen``).

    Args:
        kernel: K.
        ridge: lambda.
    """

    draws_networks = False
    uses_network = False
    regresses = True

    def __init__(self, *, kernel: Kernel, ridge: NonNegative, **common: Any) -> None:
        super().__init__(**common)
        self.kernel, self.ridge = kernel, ridge
        self.solves = self.synthetic.label_kind == "solved"
        if self.solves and self.synthetic.factor > 1:
            raise DdistError(
                "synthetic.labels=solved has a label for each training image, but a stored one "
                f"holds {self.synthetic.factor**2}: set synthetic=pixel, or choose free or hard."
            )
        if self.solves and self.average is not None:
            raise DdistError(
                "synthetic.labels=solved fit the images themselves: set method.ema=null."
            )
        if not any(parameter.requires_grad for parameter in self.synthetic.parameters()):
            self.learns = not self.solves  # solved labels of frozen images need no outer step

    def outer_loss(self, batch: Any) -> Tensor:
        indices: Tensor = batch
        images, labels = self.synthetic()
        x_t = self.data.images(indices).flatten(0, 1)
        classes = torch.arange(len(indices), device=indices.device)
        y_t = targets(classes.repeat_interleave(indices.shape[1]), self.data.num_classes)
        k_ss, k_ts = self.kernel(images, images), self.kernel(x_t, images)
        if self.solves:
            y_s = solve_labels(k_ss.detach(), [(k_ts.detach(), y_t)], self.ridge)
        else:
            y_s = targets(labels, self.data.num_classes)
        return krr_loss(k_ss, k_ts, y_s, y_t, self.ridge)

    @torch.no_grad()
    def tensors(self) -> dict[str, Any]:
        tensors = super().tensors()
        if self.solves:
            tensors["labels"] = self.solved_labels()
        return tensors

    def picture(self) -> Image:
        """Return the picture without solving for the labels, which do not show in it."""
        return self.picture_of(super().tensors())

    def solved_labels(self) -> Tensor:
        """Solve for the labels float32 [N, K] that are best on all training images."""
        images, _ = self.synthetic()

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            for x_t, y_t in self.data.batches(self.data.train, _AT_ONCE):
                yield self.kernel(x_t, images), targets(y_t, self.data.num_classes)

        y_s = solve_labels(self.kernel(images, images), parts(), self.ridge)
        return (y_s + 1 / self.data.num_classes).float().cpu()
