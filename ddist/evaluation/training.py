"""The field's common protocols: ordinary training on the distilled images, from fresh weights."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.normalization import Normalization
from ddist.augment.mix import Mix
from ddist.data import RealData
from ddist.data.ondisk import Images
from ddist.errors import DdistError
from ddist.evaluation.protocol import Context, Protocol, batches_of
from ddist.evaluation.replay import in_chunks
from ddist.init import Random
from ddist.inner.compiled import SAVED_PER_TRAINED_VALUE, pays
from ddist.inner.fit import fit
from ddist.inner.minibatches import Augment
from ddist.inner.predict import accuracy
from ddist.inner.recipe import Criterion, Optimizer, TrainingRecipe
from ddist.inner.schedule import Schedule, ScheduleName, schedule_by_name
from ddist.inner.stacking import num_members
from ddist.matching.kernel import targets
from ddist.seeding import generator
from ddist.settings.ranges import Momentum, NonNegative, Positive, PositiveInt
from ddist.stages.progress import SHORT, Progress

Teach = Callable[[Tensor, float], Tensor]
"""Soft labels [N, K] of images [N, C, H, W] at a temperature."""


class Training(Protocol):
    """Minibatch training on the distilled set, hard or soft labels, its weights of samples
    counting (Zhao et al. 2021 and most papers since).

    With the loss "mse" networks learn the labels less their mean 1/K, soft ones as they were
    learned, whatever numbers they are; else labels are probabilities.

    Each network has a generator of its own, for the order of its images and for what changes them,
    so the numbers do not depend (but for rounding) on how many are trained together.

    Args:
        name: of the protocol, in results.
        num_networks: trained from torch's default initial weights.
        epochs: how long; or that for several numbers of images, of which the nearest (by ratio)
            counts.
        schedule: how the step size falls, see
            :func:`ddist.inner.schedule.schedule_by_name`.
        loss: "cross_entropy" or "mse".
        batch_size, optimizer, lr, momentum, weight_decay: of the
            :class:`ddist.inner.recipe.TrainingRecipe`.
        augment: applied to each batch of each network; None for none.
        mix: mixes the augmented images of a batch; None for none.
        temperature: at which networks learn soft labels, likewise.
        labels: "own", those of the set; "hard", the class that each of them is likeliest to mean,
            learned at temperature 1; or "teacher", those that ``teacher`` gives each batch as it is
            trained on, augmented and mixed.
        chunk: networks held at a time.
        teacher: gives the labels of images at a temperature, such as
            :meth:`ddist.teachers.Teacher.probabilities`.
    """

    shows_networks = True

    def __init__(
        self,
        *,
        name: str,
        num_networks: PositiveInt,
        epochs: PositiveInt | Mapping[int, PositiveInt],
        schedule: ScheduleName,
        loss: Criterion,
        batch_size: PositiveInt,
        optimizer: Optimizer,
        lr: NonNegative,
        momentum: Momentum,
        weight_decay: NonNegative,
        augment: Augment | None,
        mix: Mix | None,
        temperature: Positive,
        labels: Literal["own", "hard", "teacher"],
        chunk: PositiveInt,
        teacher: Teach | None = None,
    ) -> None:
        if labels == "teacher" and teacher is None:
            raise DdistError(
                f"The protocol {name} has its labels from a teacher: choose one (teacher=trained), "
                "or set evaluation.labels=own."
            )
        self.name = name
        self.num_networks = num_networks
        by_images = epochs if isinstance(epochs, Mapping) else {1: epochs}
        self.schedules = {
            n: schedule_by_name(schedule, schedule_name) for n, schedule_name in by_images.items()
        }
        self.loss = loss
        self.batch_size, self.optimizer = batch_size, optimizer
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.augment, self.mix = augment, mix
        self.hard = labels == "hard"
        self.temperature, self.chunk = 1.0 if self.hard else temperature, chunk
        self.teacher = teacher if labels == "teacher" else None

    def label(self, x: Tensor) -> Tensor:
        """Return the teacher's labels [B, K] of images [B, C, H, W] at ``self.temperature``."""
        assert self.teacher is not None
        return self.teacher(x, self.temperature)

    def rate(self, distilled: DistilledDataset) -> float:
        """Return the step size that training starts with."""
        return self.lr

    def schedule(self, num_images: int) -> Schedule:
        """Return how long a set of so many images is trained on, and how the step size falls."""
        nearest = min(sorted(self.schedules), key=lambda n: max(n / num_images, num_images / n))
        return self.schedules[nearest]

    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        x, y, weighed = self._examples(distilled, context.data)
        recipe = self._recipe(self.rate(distilled), context, len(x))
        return self._tested(x, y, recipe, context, sample_weights=weighed), {}

    def on_all_images(self, context: Context) -> tuple[Tensor, dict[str, float]]:
        data = context.data
        self._check_temperature(data.train.y)
        recipe = self._recipe(self.lr, context, len(data.train))
        y = self._wanted(data.train.y, data)
        return self._tested(data.train.x, y, recipe, context, normalize=data.normalization), {}

    def _tested(
        self,
        x: Images,
        y: Tensor,
        recipe: TrainingRecipe,
        context: Context,
        *,
        sample_weights: Tensor | None = None,
        normalize: Normalization | None = None,
    ) -> Tensor:
        """Return the accuracies [K] on the context's split of networks trained on ``x`` and ``y``,
        as :func:`ddist.inner.fit.fit` takes them."""
        data, split, network = context.data, context.split, context.network
        start = Random("default", context.seed).held_out(network, self.num_networks)
        tested = self.num_networks * len(split)
        compiled = pays(context.compile, network, split.x[:1], tested)
        accuracies: list[Tensor] = []
        with Progress("evaluating", "epochs", recipe.epochs, quiet=SHORT) as progress:
            for index, weights in enumerate(in_chunks(start, self.chunk)):
                members = range(index * self.chunk, index * self.chunk + num_members(weights))
                trained = fit(
                    network,
                    weights,
                    x,
                    y,
                    recipe,
                    sample_weights=sample_weights,
                    normalize=normalize,
                    augment=self.augment,
                    mix=self.mix,
                    label=None if self.teacher is None else self.label,
                    generators=[generator(context.seed, "evaluate", k) for k in members],
                    progress=progress.part(index, ceil(self.num_networks / self.chunk)),
                )
                accuracies.append(
                    accuracy(
                        network,
                        trained,
                        batches_of(data, split),
                        precision=context.precision,
                        compiled=compiled,
                        confusion=context.confusion,
                    )
                )
                if context.watch is not None:
                    context.watch(trained)
        return torch.cat(accuracies).cpu()

    def _examples(
        self, distilled: DistilledDataset, data: RealData
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what networks train on: images, labels, weights of samples."""
        x, y, weighed = (
            None if tensor is None else tensor.to(data.device)
            for tensor in distilled.examples(
                as_learned=self.loss == "mse", temperature=self.temperature
            )
        )
        assert x is not None and y is not None
        if self.hard and y.is_floating_point():
            y = y.argmax(1)
        self._check_temperature(y)
        return x, self._wanted(y, data), weighed

    def _wanted(self, y: Tensor, data: RealData) -> Tensor:
        """Return the labels ``y`` as the loss takes them."""
        return targets(y, data.num_classes).float() if self.loss == "mse" else y

    def _check_temperature(self, y: Tensor) -> None:
        """Raise a DdistError for hard labels ``y`` at another temperature than 1."""
        if self.temperature != 1 and self.teacher is None and not y.is_floating_point():
            raise DdistError(
                f"evaluation.temperature={self.temperature} is for soft labels, which this set has "
                "not: set evaluation.labels=teacher, or teacher.store=true where it is distilled."
            )

    def _recipe(self, rate: float, context: Context, num_images: int) -> TrainingRecipe:
        """Return how networks are trained on ``num_images``, from the step size ``rate``."""
        schedule = self.schedule(num_images)
        steps = schedule.passes * self.num_networks * num_images
        shape = context.split.x[:1]
        return schedule.recipe(
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            lr=rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            criterion=self.loss,
            temperature=self.temperature,
            precision=context.precision,
            compiled=pays(context.compile, context.network, shape, steps, SAVED_PER_TRAINED_VALUE),
        )


class LearnedRate(Training):
    """:class:`Training` with the step size that was learned with the images (the mean of several),
    as MTT's authors do; ``lr`` for a set without one."""

    def rate(self, distilled: DistilledDataset) -> float:
        sizes = distilled.step_sizes
        return self.lr if sizes is None else float(sizes.mean())
