"""A teacher that is trained on the dataset itself."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init.pretraining import check_fits, signature
from ddist.init.random import Random
from ddist.init.schemes import Scheme
from ddist.inner.fit import fit
from ddist.inner.minibatches import Augment
from ddist.inner.recipe import Optimizer
from ddist.inner.schedule import ScheduleName, schedule_by_name
from ddist.inner.stacking import member
from ddist.networks.base import Weights
from ddist.seeding import generator
from ddist.settings.ranges import Momentum, NonNegative, NonNegativeInt, PositiveInt
from ddist.stages.progress import Progress
from ddist.storage.cache import cached_tensors
from ddist.teachers.base import Teacher

log = logging.getLogger(__name__)


class Trained(Teacher):
    """``network`` after ordinary training on ``source``: the squeezing of SRe2L (Yin et al. 2023).

    Kept under ``<cache>/teachers/<signature>.safetensors`` and shared by all methods, ipc and
    protocols; the signature covers all that changes it.

    Args:
        network: a network for the source's images; its own weights are not used.
        source: the data that it is trained on and asked about.
        scheme: how the weights start, see :func:`ddist.init.schemes.draw_weights`.
        train_per_class: most images of each class that it is trained on; None for all.
        epochs, schedule: how long, and how the step size falls, see
            :func:`ddist.inner.schedule.schedule_by_name`.
        batch_size, optimizer, lr, momentum, weight_decay: of the
            :class:`ddist.inner.recipe.TrainingRecipe`.
        augment: applied to each batch; its repr says all that it does. None for none.
    """

    trains = True

    def __init__(
        self,
        *,
        network: nn.Module,
        source: RealData,
        scheme: Scheme,
        train_per_class: PositiveInt | None,
        epochs: NonNegativeInt,
        schedule: ScheduleName,
        batch_size: PositiveInt,
        optimizer: Optimizer,
        lr: NonNegative,
        momentum: Momentum,
        weight_decay: NonNegative,
        augment: Augment | None,
    ) -> None:
        check_fits(network, source, "a teacher", "choose the network of this dataset")
        super().__init__(network, source)
        self.architecture, self.images = network, source
        if train_per_class is not None:
            self.images = source.limited(train_per_class, "teacher")
        self.scheme, self.augment = scheme, augment
        self.schedule = schedule
        self.recipe = schedule_by_name(schedule, epochs).recipe(
            batch_size=batch_size,
            optimizer=optimizer,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
        )

    def signature(self) -> str:
        """Return 8 hex digits that change with anything that changes the teacher."""
        return signature(
            self._network,
            self.images,
            self.source.seed,
            scheme=self.scheme,
            schedule=self.schedule,
            recipe=self.recipe.settings(
                "epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay"
            ),
            augment=repr(self.augment),
        )

    @property
    def file(self) -> Path:
        """The file that keeps the teacher once it is trained."""
        return self.source.cache / "teachers" / f"{self.signature()}.safetensors"

    def load(self, network: nn.Module) -> None:
        network.load_state_dict(cached_tensors(self.file, partial(self._train, network)))

    def _train(self, network: nn.Module) -> Weights:
        data = self.images.to(self.source.device)
        log.info("Training the teacher on %s; this is done once.", data.name)
        with Progress("the teacher", "epochs", self.recipe.epochs) as progress:
            trained = self._fit(network, data, lambda epoch, _: progress.to(epoch))
        if not all(torch.isfinite(w).all() for w in trained.values()):
            raise DdistError("The teacher's training diverged: lower teacher.lr.")
        return member(trained, 0)

    def _fit(
        self, network: nn.Module, data: RealData, progress: Callable[[int, int], None]
    ) -> Weights:
        """Train the network and return its weights, stacked [1, ...]."""
        seed = self.source.seed
        return fit(
            network,
            Random(self.scheme, seed).draw(network, 1, "teacher"),
            data.train.x,
            data.train.y,
            self.recipe,
            generators=[generator(seed, "teacher", "order")],
            normalize=data.normalization,
            augment=self.augment,
            progress=progress,
        )
