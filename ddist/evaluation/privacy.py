"""What a distilled set, and networks trained on it, give away of the images it was made from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ddist.inner.predict import predict
from ddist.networks import Weights

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images [B, C, H, W] and what belongs to each."""


def nearest(images: Tensor, others: Iterable[Tensor]) -> Tensor:
    """Return the distance [N] of each of ``images`` [N, C, H, W] to the nearest of ``others``
    [M, C, H, W], which come in batches: the root of the mean squared difference of their pixels,
    in the unit of these."""
    flat = images.flatten(1).double()
    distances = [torch.cdist(flat, x.flatten(1).double().to(flat)).amin(1) for x in others]
    return torch.stack(distances).amin(0) / flat.shape[1] ** 0.5


@dataclass(frozen=True)
class Nearness:
    """Distances of synthetic images to their nearest real ones, in units of a pixel from 0 to 1."""

    train: float  # median, to training images
    held_out: float  # median
    closest: float  # the smallest to a training image; 0 is a copy
    nearest_is_train: float
    """The fraction of synthetic images whose nearest real image is a training one, ties counting
    half."""
    by_chance: float
    """That fraction where nothing is kept of single images: the share of training images among all,
    as then any real image may be the nearest (both being drawn from the same distribution)."""


def nearness(train: Tensor, held_out: Tensor, num_train: int, num_held_out: int) -> Nearness:
    """Return what the distances [N] to the nearest of so many images of each kind say."""
    nearer = (train < held_out).double() + 0.5 * (train == held_out).double()
    return Nearness(
        train=float(train.median()),
        held_out=float(held_out.median()),
        closest=float(train.min()),
        nearest_is_train=float(nearer.mean()),
        by_chance=num_train / (num_train + num_held_out),
    )


@dataclass(frozen=True)
class Membership:
    """How well a threshold on a network's loss tells members from others (Yeom et al. 2018), and
    that at few false alarms (Carlini et al. 2022); the mean over networks."""

    auc: float  # 0.5 is chance
    true_positives: dict[str, float]  # the fraction of members found, by that of false alarms
    accuracy_members: float
    accuracy_others: float


class Losses:
    """Watches trained networks (see :class:`ddist.evaluation.protocol.Context`) and keeps their
    losses and whether they are right, [K, N] each, on the images of each of ``groups``."""

    def __init__(self, network: nn.Module, groups: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self._network, self._groups = network, groups
        self.losses: dict[str, list[Tensor]] = {name: [] for name in groups}
        self.right: dict[str, list[Tensor]] = {name: [] for name in groups}

    def __call__(self, weights: Weights) -> None:
        for name, (x, y) in self._groups.items():
            logits = predict(self._network, weights, x).float()  # [K, N, C]
            target = y.expand(len(logits), -1)
            losses = cross_entropy(logits.transpose(1, 2), target, reduction="none")
            self.losses[name].append(losses.cpu())
            self.right[name].append((logits.argmax(-1) == target).cpu())

    def membership(self, members: str, others: str, false_alarms: Sequence[float]) -> Membership:
        """Return how well the group ``members`` is told from ``others``."""
        inside, outside = (torch.cat(self.losses[name]) for name in (members, others))
        labels = torch.tensor([1] * inside.shape[1] + [0] * outside.shape[1]).numpy()
        scores = -torch.cat([inside, outside], 1).double().numpy()  # [K, N]: members are fitted
        curves = [roc_curve(labels, score, drop_intermediate=False) for score in scores]
        hits_at = {
            f"{rate:g}": fmean(float(hits[false <= rate].max()) for false, hits, _ in curves)
            for rate in false_alarms
        }
        accuracies = [
            float(torch.cat(self.right[name]).double().mean()) for name in (members, others)
        ]
        return Membership(
            fmean(float(roc_auc_score(labels, score)) for score in scores), hits_at, *accuracies
        )
