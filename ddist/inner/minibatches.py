"""Minibatches for K networks, each with its own random order of the same data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Minibatch:
    """Images ``x``, labels ``y`` and factors of their losses: common to all networks, [B, ...],
    or, where ``own``, one batch per network, [K, B, ...]."""

    x: Tensor
    y: Tensor
    factors: Tensor | None
    own: bool


@dataclass(frozen=True)
class Minibatches:
    """The data of one training; see :func:`ddist.inner.fit.fit` for the fields."""

    x: Tensor
    y: Tensor
    factors: Tensor | None
    batch_size: int
    normalize: Callable[[Tensor], Tensor] | None
    augment: Augment | None

    def epoch(self, generators: Sequence[torch.Generator]) -> Iterator[Minibatch]:
        """One pass over the data, each network in its own order."""
        if len(self.x) <= self.batch_size:
            # One full batch: its order changes nothing, and common images are faster.
            yield self._full_batch(generators)
            return
        orders = torch.stack(
            [torch.randperm(len(self.x), generator=g, device=g.device) for g in generators]
        ).to(self.x.device)
        for index in torch.split(orders, self.batch_size, dim=1):
            factors = None if self.factors is None else self.factors[index]
            x = self._normalized(self.x[index.flatten()])
            x = x.reshape(*index.shape, *x.shape[1:])
            yield Minibatch(self._augmented(x, generators), self.y[index], factors, own=True)

    def _full_batch(self, generators: Sequence[torch.Generator]) -> Minibatch:
        x = self._normalized(self.x)
        if self.augment is None:
            return Minibatch(x, self.y, self.factors, own=False)
        num = len(generators)
        y = self.y.expand(num, *self.y.shape)
        factors = None if self.factors is None else self.factors.expand(num, -1)
        x = self._augmented(x.expand(num, *x.shape), generators)
        return Minibatch(x, y, factors, own=True)

    def _normalized(self, x: Tensor) -> Tensor:
        return x if self.normalize is None else self.normalize(x)

    def _augmented(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        if self.augment is None:
            return x
        pairs = zip(x, generators, strict=True)
        return torch.stack([self.augment(images, generator) for images, generator in pairs])
