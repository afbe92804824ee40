"""The base of methods that learn images for a linear layer on the features of a fixed network."""

from abc import abstractmethod
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.checkpoint import checkpoint

from ddist.evaluation.frozen import Features, Frozen, check_frozen
from ddist.inner.footprint import GRADIENT
from ddist.inner.minibatches import Augment
from ddist.inner.parts import at_once, footprint, forward_in_parts, limit
from ddist.methods.base import Method
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt


class Probing(Method):
    """A loss of the features of augmented views of the synthetic images and of those of real ones
    as they are; a subclass writes it, :meth:`match`.

    The features of real images are computed once (see :class:`ddist.evaluation.frozen.Features`),
    so that an outer step passes nothing but its views through the network. Where all of them
    together take too much memory, the graph of some at a time is held, and built once more on the
    way back; views and gradients are the same. The batch of an outer step is the indices of real
    images, [K, B].

    Args:
        views: V, of each image at every outer step.
        augment: makes a view; None for the images as they are, which V is then 1 for.
    """

    draws_networks = False
    needs_features = True

    def __init__(self, *, views: PositiveInt, augment: Augment | None, **common: Any) -> None:
        super().__init__(**common)
        check_frozen(self.network, self.init)
        self.views, self.augment = 1 if augment is None else views, augment

    @abstractmethod
    def match(self, phi_syn: Tensor, y_syn: Tensor, phi_real: Tensor, y_real: Tensor) -> Tensor:
        """Return the loss of the features of synthetic views [V M, F] and of real images [B, F],
        with labels float [V M, K] and [B, K]: a scalar."""

    @cached_property
    def frozen(self) -> Frozen:
        """The network, on its device."""
        return Frozen.of(self.network, self.init)

    @cached_property
    def features(self) -> Features:
        """Those of the training images."""
        return Features(self.frozen, self.data, self.data.train)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.features.prepare()

    def outer_loss(self, batch: Any) -> Tensor:
        indices: Tensor = batch
        images, labels = self.synthetic()
        num_classes = self.data.num_classes
        if not labels.is_floating_point():
            labels = one_hot(labels, num_classes).to(images.dtype)
        phi_syn = self.view_features(images).flatten(0, 1)
        phi_real = self.features.rows(indices.flatten()).to(phi_syn)
        classes = torch.arange(num_classes, device=images.device)
        y_real = one_hot(classes.repeat_interleave(indices.shape[1]), num_classes)
        return self.match(phi_syn, labels.repeat(self.views, 1), phi_real, y_real.to(phi_syn))

    def view_features(self, images: Tensor) -> Tensor:
        """Return the features [V, M, F] of the views of ``images`` [M, C, H, W] in this step."""
        if self.views * len(images) <= self.at_once():
            views = [self.view(images, v) for v in range(self.views)]
            return self.frozen(torch.cat(views)).unflatten(0, (self.views, -1))
        features = [
            checkpoint(partial(self.features_of, v=v), images, use_reentrant=False)
            for v in range(self.views)
        ]
        return torch.stack(features)

    def view(self, images: Tensor, v: int) -> Tensor:
        """Return view ``v`` of the images; the same one whenever it is asked for in this step."""
        if self.augment is None:
            return images
        # The last key is of earlier parts of a view, and keeps the draws of docs/backbones.md.
        keys = ("view", self.global_rank, self.batch_number(), v, 0)
        return self.augment(images, generator(self.seed, *keys))

    def features_of(self, images: Tensor, *, v: int) -> Tensor:
        """Return the features [M, F] of view ``v``, with the graph of some at a time."""
        return forward_in_parts(self.frozen, self.view(images, v), self.at_once())

    def at_once(self) -> int:
        """Return how many images have their graph held at a time."""
        one = footprint(self.network, self.data.image_shape).saved
        return at_once(round(GRADIENT * one), self.data.device)

    def num_bytes(self) -> int:
        num = self.views * len(self.synthetic.classes)
        one = footprint(self.network, self.data.image_shape)
        return min(one.gradient(num), limit(self.data.device) + one.gradient(1))
