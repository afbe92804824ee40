"""The base of methods that compare real and synthetic images class by class."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddist.augment import Siamese
from ddist.errors import DdistError
from ddist.inner.compiled import SAVED_PER_VALUE, compiled
from ddist.inner.stacking import keeps_statistics, member, num_members
from ddist.methods.base import Method
from ddist.methods.representatives import Representatives
from ddist.networks import Weights, embed
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt

REAL_AT_ONCE = 64  # real images in one call on a CPU

Group = tuple[Tensor, Tensor]
"""Classes int64 [k] and their images [k, M, C, H, W], or the rows of these [k, M]."""


class Matching(Method):
    """A loss that is a sum over classes; a subclass writes the term of some classes, :meth:`match`.

    Real and synthetic images of a class get the same augmentation (Zhao & Bilen 2021). Classes are
    visited ``classes_at_once``, each with a graph of its own, so memory does not grow with their
    number; value and gradient are those of the whole sum. The batch of an outer step is the indices
    of the real images, [K, B].

    Args:
        num_networks: networks per outer step, whose losses are averaged.
        classes_at_once: classes whose graph is held at a time; None for as many as have 4096 real
            images and 64 synthetic ones (1024 off CPUs).
        augment: applied to both kinds of images.
        cluster_from: random images of each class, in whose clusters the real ones are chosen (see
            :mod:`ddist.methods.representatives`); None for random ones.
        cluster_every: outer steps after which others are chosen.
    """

    def __init__(
        self,
        *,
        num_networks: PositiveInt,
        classes_at_once: PositiveInt | None,
        augment: Siamese,
        cluster_from: PositiveInt | None = None,  # YAML of somebody's own may be older than these
        cluster_every: PositiveInt = 10,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if self.synthetic.stored()[1].is_floating_point():
            raise DdistError(
                "This method compares images class by class and learns no labels: leave "
                "synthetic.labels=hard."
            )
        self.num_networks = num_networks
        self.classes_at_once = classes_at_once
        self.augment = augment
        self._fast: dict[Callable[..., Tensor], Callable[..., Tensor]] = {}
        self.representatives: Representatives | None = None
        if cluster_from is not None:
            if cluster_from < (most := self.data.per_class or 0):
                raise DdistError(
                    f"method.cluster_from={cluster_from} images of a class have no "
                    f"method.real_per_class={most} clusters: choose more."
                )
            self.representatives = Representatives(
                self.data, self.features_at, self.seed, cluster_from, cluster_every
            )
        self._groups = groups_of(self.images_per_class, self.synthetic.examples_each)

    def fast(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return ``function``, which is applied to the real images of every outer step, compiled
        where that saves more time over the whole run than it takes. For first derivatives only."""
        if function not in self._fast:
            images = self.data.num_classes * (self.data.per_class or 0) * self.num_networks
            worthwhile = self.worth_compiling(images, SAVED_PER_VALUE)
            self._fast[function] = compiled(function, worthwhile)
        return self._fast[function]

    @abstractmethod
    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of one network, summed over ``classes`` [k], that compares real images
        [k, B, C, H, W] with synthetic ones [k, M, C, H, W]."""

    @torch.no_grad()
    def real_features(self, weights: Weights, x: Tensor) -> Tensor:
        """Compute the features [k, B, F] of real images [k, B, C, H, W], some images at a time."""
        forward = self.fast(embed)
        chunks = self.real_parts(x.flatten(0, 1))
        features = torch.cat([forward(self.network, weights, chunk) for chunk in chunks])
        return features.unflatten(0, x.shape[:2])

    def features_at(self, batch: int, x: Tensor) -> Tensor:
        """Compute the features [k, M, F] of real images [k, M, C, H, W] in the network that is
        drawn for the run's batch ``batch``."""
        drawn = self.init.draw(self.network, 1, self.global_rank, batch)
        return self.real_features(member(drawn, 0), x)

    def real_parts(self, x: Tensor) -> Sequence[Tensor]:
        """Split real images [N, C, H, W] into parts whose activations fit into a CPU's caches or a
        GPU's memory; there is one part where batch normalisation looks at all of them."""
        if keeps_statistics(self.network):
            return [x]
        return x.split(REAL_AT_ONCE if x.device.type == "cpu" else 64 * REAL_AT_ONCE)

    def networks_of_step(self) -> Weights:
        """Return the networks [num_networks, ...] of this outer step."""
        return self.draw_networks(self.num_networks)

    def outer_loss(self, batch: Any) -> Tensor:
        indices: Tensor = batch
        if self.representatives is not None:
            number, per_class = self.batch_number(), indices.shape[1]
            indices = self.representatives.rows(number, per_class, self.global_rank)
        weights = self.networks_of_step()
        images, _ = self.synthetic()
        groups = self.by_class(images)
        num = num_members(weights)
        total = images.new_zeros(())
        for k in range(num):
            stream = generator(self.seed, "augment", self.global_rank, self.batch_number(), k)
            loss = self._loss(member(weights, k), indices, groups, stream)
            total = total + loss / num
        return total

    def _loss(
        self, weights: Weights, indices: Tensor, groups: list[Group], stream: torch.Generator
    ) -> Tensor:
        draw = self.augment.draw(len(indices), stream)

        def augmented(x: Tensor, classes: Tensor) -> Tensor:
            group = classes.repeat_interleave(x.shape[1])
            return self.augment.apply(x.flatten(0, 1), draw, group).view_as(x)

        def term(of_group: Tensor, x_syn: Tensor, group: Tensor) -> Tensor:
            classes = of_group[group]
            x_real = augmented(self.data.images(indices[classes.to(indices.device)]), classes)
            return self.match(weights, x_real, augmented(x_syn, classes), classes)

        losses = [
            sum_of_terms(
                partial(term, classes), x, self.parts(x, indices.shape[1]), self.loss_scale()
            )
            for classes, x in groups
        ]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def parts(self, x_syn: Tensor, num_real: int) -> Sequence[Tensor]:
        """Split the classes of ``x_syn`` [K, M, C, H, W] into parts that are matched together, with
        ``num_real`` real images of each class."""
        return torch.arange(len(x_syn)).split(self.at_once(x_syn, num_real))

    def at_once(self, x_syn: Tensor, num_real: int) -> int:
        """Return how many classes of ``x_syn`` [K, M, C, H, W] have their graph held at a time."""
        most = 64 if x_syn.device.type == "cpu" else 1024
        fitting = min(most // x_syn.shape[1], 64 * REAL_AT_ONCE // num_real)
        return self.classes_at_once or max(1, fitting)

    def by_class(self, images: Tensor) -> list[Group]:
        """Group the training images [N, C, H, W], which are sorted by class, so that the classes of
        a group have equally many."""
        if len(self._groups) == 1:  # a view, and no copy
            ((classes, rows),) = self._groups
            return [(classes, images.unflatten(0, rows.shape))]
        return [(classes, images[rows.to(images.device)]) for classes, rows in self._groups]


def groups_of(images_per_class: Sequence[int], each: int) -> list[Group]:
    """Return the classes int64 [k] that have equally many images, and the rows int64 [k, M] of
    their training images, ``each`` for every image, which are sorted by class."""
    counts = each * torch.tensor(images_per_class)
    starts = counts.cumsum(0) - counts
    groups = []
    for count in counts.unique():
        classes = (counts == count).nonzero().flatten()
        groups.append((classes, starts[classes, None] + torch.arange(int(count))))
    return groups


def sum_of_terms(
    term: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    groups: Sequence[Tensor],
    scale: float = 1.0,
) -> Tensor:
    """Sum ``term(x[group], group)`` over ``groups``, each differentiated at once: the value and the
    gradient in ``x`` are the plain sum's, but only one term's graph is in memory. Each term is
    ``scale`` times as large while it is differentiated (see :meth:`Method.loss_scale`)."""
    if len(groups) == 1:
        return term(x, groups[0])
    value, gradients = x.new_zeros(()), []
    for group in groups:
        leaf = x[group.to(x.device)].detach().requires_grad_()
        loss = term(leaf, group)
        gradients.append(torch.autograd.grad(loss * scale, leaf)[0] / scale)
        value = value + loss.detach()
    # Zero in value, with the gradient computed above.
    return value + ((x - x.detach()) * torch.cat(gradients)).sum()
