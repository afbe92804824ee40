"""Minibatches for K networks, each with its own random order of the same data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddist.augment.mix import Mix
from ddist.data.ondisk import Images

Augment = Callable[[Tensor, torch.Generator], Tensor]
Label = Callable[[Tensor], Tensor]
"""Soft labels [B, C] of images [B, C, H, W]."""


@dataclass(frozen=True)
class Minibatch:
    """Images ``x``, labels ``y`` and factors of their losses: common to all networks, [B, ...],
    or, where ``own``, one batch per network, [K, B, ...]. Mixed images have a second label each,
    ``others``: labels and factors of the losses that are added."""

    x: Tensor
    y: Tensor
    factors: Tensor | None
    own: bool
    others: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Minibatches:
    """The data of one training; see :func:`ddist.inner.fit.fit` for the fields."""

    x: Images
    y: Tensor
    factors: Tensor | None
    batch_size: int
    normalize: Callable[[Tensor], Tensor] | None
    augment: Augment | None
    mix: Mix | None = None
    label: Label | None = None

    def epoch(self, generators: Sequence[torch.Generator]) -> Iterator[Minibatch]:
        """Yield the batches of one pass over the data, each network in its own order."""
        if len(self.x) <= self.batch_size:
            # One full batch: its order changes nothing, and sharing its images is faster.
            yield self._labelled(self._full_batch(generators))
            return
        orders = torch.stack(
            [torch.randperm(len(self.x), generator=g, device=g.device) for g in generators]
        ).to(self.x.device)
        for index in torch.split(orders, self.batch_size, dim=1):
            factors = None if self.factors is None else self.factors[index]
            x = self._normalized(self.x[index.flatten()])
            x = x.reshape(*index.shape, *x.shape[1:])
            yield self._labelled(self._changed(x, self.y[index], factors, generators))

    def _full_batch(self, generators: Sequence[torch.Generator]) -> Minibatch:
        x = self._normalized(self.x[:])
        if self.augment is None and self.mix is None:
            return Minibatch(x, self.y, self.factors, own=False)
        num = len(generators)
        y = self.y.expand(num, *self.y.shape)
        factors = None if self.factors is None else self.factors.expand(num, -1)
        return self._changed(x.expand(num, *x.shape), y, factors, generators)

    def _normalized(self, x: Tensor) -> Tensor:
        return x if self.normalize is None else self.normalize(x)

    def _changed(
        self, x: Tensor, y: Tensor, factors: Tensor | None, generators: Sequence[torch.Generator]
    ) -> Minibatch:
        """Augment and mix each network's batch [K, B, ...] with the network's own generator."""
        if self.augment is not None:
            pairs = zip(x, generators, strict=True)
            x = torch.stack([self.augment(images, generator) for images, generator in pairs])
        if self.mix is None:
            return Minibatch(x, y, factors, own=True)
        mixed = [self.mix(images, g) for images, g in zip(x, generators, strict=True)]
        partner = torch.stack([mixing.partner for mixing in mixed])
        share = torch.tensor([[mixing.share] for mixing in mixed], device=x.device)
        rows = torch.arange(len(x), device=x.device)[:, None]
        factors = torch.ones(y.shape[:2], device=x.device) if factors is None else factors
        others = (y[rows, partner], factors[rows, partner] * (1 - share))
        x = torch.stack([mixing.x for mixing in mixed])
        return Minibatch(x, y, factors * share, own=True, others=others)

    def _labelled(self, batch: Minibatch) -> Minibatch:
        """Replace the labels by those that ``label`` gives the images as they are now: a mixed
        image has a single label, and its samples' weights add up by their shares."""
        if self.label is None:
            return batch
        factors = batch.factors
        if batch.others is not None:
            assert factors is not None
            factors = factors + batch.others[1]
        y = self.label(batch.x.flatten(0, 1) if batch.own else batch.x)
        y = y.view(*batch.x.shape[:-3], y.shape[1])
        return replace(batch, y=y, factors=factors, others=None)
