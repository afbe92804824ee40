"""Linear probes: a linear layer on the features of a network that stays as it is."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ddist.artifact.dataset import DistilledDataset
from ddist.data.split import Split
from ddist.errors import DdistError
from ddist.evaluation.frozen import Features, Frozen, check_frozen
from ddist.evaluation.protocol import Context, Protocol
from ddist.init import InitialWeights
from ddist.inner.minibatches import Augment
from ddist.inner.predict import count
from ddist.inner.stacking import Precision
from ddist.matching.probe import Moments, Probe, adamw_probe, best, left_out_error, ridge_probe
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative, Positive, PositiveInt
from ddist.synthetic.choose import choose_of_all, selection

CHOICES = ("nearest", "herding", "kmeans_embedding")
"""Of real images, that distilled ones are evaluated beside (see :mod:`ddist.synthetic.choose`)."""
HELD_OUT = 10  # every so many-th training image, for the choice of a penalty on all of them


class LinearProbe(Protocol):
    """Trains a linear layer on the features of some augmented views of the distilled images and
    asks it about the features of test images as they are.

    Probe k draws its views from a generator of its own; without augmentation all are the same, and
    there is one. The features of real images are computed once and kept in the cache.

    Args:
        name: of the protocol, in results.
        num_probes: on views of their own.
        fit: "ridge" (least squares on one-hot or soft labels, in closed form) or "adamw" (of the
            cross-entropy).
        ridge_grid: penalties to choose from, relative to the features' mean square.
        chosen_on: what the penalty is chosen on: "real", validation images or, where none are held
            out, training images; or "distilled", by the squared error of each distilled image's
            labels when it is left out.
        tuning_images: most real images for that choice.
        views: of each image, together for the ridge, in turn for AdamW.
        augment: makes the views; None for the images as they are, once.
        epochs, lr, weight_decay: of AdamW, each epoch being one step on one view of all images.
    """

    needs_features = True
    num_beside = len(CHOICES)
    takes_all_images = True

    def __init__(
        self,
        *,
        name: str,
        num_probes: PositiveInt,
        fit: Literal["ridge", "adamw"],
        ridge_grid: Annotated[Sequence[Positive], MinLen(1)],
        chosen_on: Literal["real", "distilled"],
        tuning_images: PositiveInt,
        views: PositiveInt,
        augment: Augment | None,
        epochs: PositiveInt,
        lr: Positive,
        weight_decay: NonNegative,
    ) -> None:
        self.name, self.fit = name, fit
        self.ridge_grid, self.chosen_on, self.tuning_images = ridge_grid, chosen_on, tuning_images
        self.augment = augment
        self.num_probes, self.views = (1, 1) if augment is None else (num_probes, views)
        self.adamw = partial(adamw_probe, epochs=epochs, lr=lr, weight_decay=weight_decay)

    def check_precision(self, precision: Precision) -> None:
        if precision != "32-true":
            raise DdistError(
                "Linear probes look at features in 32 bits: leave evaluation.precision=32-true."
            )

    def check_network(self, network: nn.Module, init: InitialWeights) -> None:
        check_frozen(network, init)

    def prepare(self, context: Context) -> None:
        """Compute the features of all real images."""
        data, frozen = context.data, Frozen.of(context.network, context.init)
        for split in (data.train, data.validation, context.split):
            if split is not None:
                Features(frozen, data, split).prepare()

    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        frozen = Frozen.of(context.network, context.init)
        tests = Features(frozen, context.data, context.split).prepare()
        accuracies: list[float] = []
        chosen: dict[str, float] = {}
        for k in range(self.num_probes):
            phi, y = self.examples(frozen, distilled, context, k)
            if self.fit == "adamw":
                probe = self.adamw(phi, y)
            else:
                if not chosen:
                    chosen = {"ridge": self.penalty(phi, y, frozen, context)}
                probe = ridge_probe(*stacked(phi, y), chosen["ridge"])
            accuracies.append(share_right(probe, tests, context.confusion))
        return torch.tensor(accuracies, dtype=torch.float64), chosen

    @torch.no_grad()
    def examples(
        self, frozen: Frozen, distilled: DistilledDataset, context: Context, k: int
    ) -> tuple[Tensor, Tensor]:
        """Return the features [V, n, F] of the views for probe k, and labels float [n, K]."""
        x, y, weights = distilled.examples()
        if weights is not None:
            raise DdistError(
                "A linear probe knows no weights of samples, which this set has: choose another "
                "protocol, such as evaluation=dc2021."
            )
        x, y = x.to(context.data.device), y.to(context.data.device)
        if not y.is_floating_point():
            y = one_hot(y, context.data.num_classes).float()
        if self.augment is None:
            return frozen.in_parts(x)[None], y
        streams = [generator(context.seed, "probe", k, view) for view in range(self.views)]
        views = [frozen.in_parts(self.augment(x, stream)) for stream in streams]
        return torch.stack(views), y

    def penalty(self, phi: Tensor, y: Tensor, frozen: Frozen, context: Context) -> float:
        """Choose the penalty for the features [V, n, F] and labels [n, K] of distilled images."""
        if len(self.ridge_grid) == 1:
            return self.ridge_grid[0]
        rows = stacked(phi, y)
        if self.chosen_on == "distilled":
            errors = [-left_out_error(*rows, ridge, len(phi)) for ridge in self.ridge_grid]
            return best(self.ridge_grid, errors)
        data = context.data
        source = data.train if data.validation is None else data.validation
        order = torch.randperm(len(source), generator=generator(context.seed, "tuning"))
        few = order[: self.tuning_images]
        x = Features(frozen, data, source).prepare().rows(few)
        classes = source.y[few.to(source.y.device)]
        scores = [right(ridge_probe(*rows, ridge), x, classes) for ridge in self.ridge_grid]
        return best(self.ridge_grid, scores)

    def choices(self, context: Context, counts: Sequence[int]) -> dict[str, Tensor]:
        """Choose so many training images of each class in the network's features."""
        data = context.data
        frozen = Frozen.of(context.network, context.init)
        features = Features(frozen, data, data.train).prepare()
        chosen = {}
        for name in CHOICES:
            choose = selection(name, generator(context.seed, "beside", name))
            chosen[name] = choose_of_all(choose, features.of_class, counts, data.train.offsets)
        return chosen

    def on_all_images(self, context: Context) -> tuple[Tensor, dict[str, float]]:
        """Return the accuracy of the closed-form probe of all training images, as they are; its
        penalty is chosen on validation images or, where none are held out, on a tenth of them."""
        data = context.data
        frozen = Frozen.of(context.network, context.init)
        train = Features(frozen, data, data.train).prepare()
        few = torch.arange(0, len(train), HELD_OUT)
        held_out = Moments.of(labelled(train, few, data.num_classes))
        left = torch.ones(len(train), dtype=torch.bool)
        left[few] = False
        rest = Moments.of(labelled(train, left.nonzero()[:, 0], data.num_classes))
        if data.validation is None:
            x, classes = train.rows(few), data.train.y[few.to(data.train.y.device)]
        else:
            split: Split = data.validation
            x = Features(frozen, data, split).prepare().rows(torch.arange(len(split)))
            classes = split.y
        scores = [right(rest.probe(ridge), x, classes) for ridge in self.ridge_grid]
        ridge = best(self.ridge_grid, scores)
        probe = rest.plus(held_out).probe(ridge)
        tests = Features(frozen, data, context.split).prepare()
        accuracy = share_right(probe, tests, context.confusion)
        return torch.tensor([accuracy], dtype=torch.float64), {"ridge": ridge}


def stacked(phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return features [V n, F] and labels [V n, K] of features [V, n, F] and labels [n, K]."""
    return phi.flatten(0, 1), y.repeat(len(phi), 1)


def labelled(features: Features, rows: Tensor, num_classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the features and one-hot labels of those ``rows``, in parts."""
    y = features.split.y
    for part in rows.split(8192):
        yield features.rows(part), one_hot(y[part.to(y.device)], num_classes)


def right(probe: Probe, features: Tensor, classes: Tensor) -> float:
    """Return the share of features [n, F] whose class is predicted right."""
    return float((probe(features).argmax(1) == classes).double().mean())


def share_right(probe: Probe, tests: Features, confusion: Tensor | None) -> float:
    """Return the same of all ``tests``, and count the predictions in ``confusion``."""
    correct = 0
    for features, classes in tests.batches():
        predicted = probe(features).argmax(1)
        correct += int((predicted == classes).sum())
        count(confusion, predicted.unsqueeze(0), classes)
    return correct / len(tests)
