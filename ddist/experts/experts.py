"""Experts, trained on demand, shared between processes and kept."""

import logging
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ddist.augment import Siamese
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.experts.accuracy import expert_accuracies
from ddist.experts.store import Store
from ddist.experts.work import Work, spread
from ddist.formatting import size
from ddist.init.pretraining import check_source, signature
from ddist.init.random import device_of
from ddist.init.schemes import draw_weights
from ddist.inner.compiled import SAVED_PER_TRAINED_VALUE, Compile, pays
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.stacking import Precision, choose_stacked
from ddist.networks.base import Weights
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative, NonNegativeInt, PositiveInt
from ddist.storage.sharing import check_space

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

TOGETHER = 10
"""Experts in a group, where they are trained stacked: fixed, so that processes can share them."""


class Trajectories:
    """Networks trained on ``source``: their weights after each epoch (Cazenavette et al. 2022, the
    authors' buffer.py).

    SGD without momentum, so that an epoch depends on nothing but the weights before it: training
    goes on from any file, and more epochs can be added. Expert k has its own random numbers, for
    each epoch anew, and does not depend on how many there are (but for rounding, where they are
    trained stacked).

    The files lie in ``<cache>/experts/<signature>`` (see :class:`ddist.experts.store.Store`);
    the signature covers all that changes an expert.

    Args:
        num_experts: how many.
        epochs: how long each is trained; None for as long as whoever uses them needs.
        batch_size, lr, weight_decay, rho, alpha, precision: of :func:`ddist.inner.fit.fit`;
            ``rho`` and ``alpha`` make them flat (FTD; Du et al. 2023).
        augment: applied to each batch.
        dtype: what files hold, "float32" or "bfloat16". From the latter training cannot go on
            where it was stopped: the group in progress starts again.
        shard: 0, 1, 2, ...: where this process starts among the groups of experts; None for 0.
            Processes of any number and of any shards share the work; different ones meet late.
        source: the data that they are trained on.
        cache: the folder of ``paths.cache``.
        seed: the run's root seed.
        compile: with torch.compile, see :func:`ddist.inner.compiled.pays`.
    """

    def __init__(
        self,
        *,
        num_experts: PositiveInt,
        epochs: PositiveInt | None,
        batch_size: PositiveInt,
        lr: NonNegative,
        weight_decay: NonNegative,
        rho: NonNegative,
        alpha: NonNegative,
        augment: Siamese,
        dtype: Literal["float32", "bfloat16"],
        precision: Precision,
        shard: NonNegativeInt | None,
        source: RealData,
        cache: Path | str,
        seed: int,
        compile: Compile,
    ) -> None:
        self.num_experts, self.epochs = num_experts, epochs
        self.recipe = TrainingRecipe(
            epochs=1,
            batch_size=batch_size,
            optimizer="sgd",
            lr=lr,
            momentum=0.0,
            weight_decay=weight_decay,
            rho=rho,
            alpha=alpha if rho else 0.0,  # which is then of no use
            precision=precision,
        )
        self.augment, self.dtype, self.shard = augment, dtype, shard
        self.source, self.seed, self.compile = source, seed, compile
        self.cache = Path(cache).expanduser()
        self._stores: WeakKeyDictionary[nn.Module, dict[str, Store]] = WeakKeyDictionary()

    def prepare(self, network: nn.Module, epochs: int) -> list[float]:
        """Train what is missing of all experts, up to ``epochs``, together with any other process
        that does the same, and return the test accuracy of each after its last epoch, as a
        fraction.

        Raises:
            DdistError: the network cannot be an expert on this data, it is asked for more than
                ``self.epochs``, the disk is too small or cannot be written to, or training
                diverges.
        """
        if self.epochs is not None and epochs > self.epochs:
            raise DdistError(
                f"Experts of {epochs} epochs are needed, but trajectories.epochs={self.epochs}: "
                "raise it, or leave it null."
            )
        work = self._work(network, self.epochs or epochs)
        folder, num_missing = work.store.folder, len(work.missing())
        tested = work.store, network, self.source, self.num_experts, work.epochs
        experts = f"{self.num_experts} experts of {work.epochs} epochs on {self.source.name}"
        if num_missing == 0:
            log.info("All %s are there: %s.", experts, folder)
            return expert_accuracies(*tested)
        space = num_missing * work.store.file_bytes
        remedy = "choose trajectories.dtype=bfloat16 or a smaller trajectories.num_experts"
        check_space(folder, space, "experts", remedy)
        log.info(
            "Training %s: %s files are missing, %s, in %s.",
            experts,
            f"{num_missing:,}",
            size(space),
            folder,
        )
        work.share(spread(self.shard or 0))
        return expert_accuracies(*tested)

    def read(self, network: nn.Module, expert: int, epoch: int) -> Weights:
        """Return the weights of one expert after ``epoch`` epochs (0: as it started), float32, on
        the network's device. A file that is damaged or not there is trained first."""
        assert 0 <= expert < self.num_experts, "there is no such expert"
        store = self._store(network)
        weights = store.read(expert, epoch)
        if weights is None:
            work = self._work(network, epoch)
            group = next(members for members in work.groups if expert in members)
            work.claim(group, seconds=-1, advance=None)
            weights = store.read(expert, epoch)
        if weights is None:
            raise DdistError(
                f"{store.path(expert, epoch)} was just written and is damaged again: check the "
                "disk, or set paths.cache (DDIST_CACHE) to another one."
            )
        return {name: w.to(device_of(network), torch.float32) for name, w in weights.items()}

    def missing(self, network: nn.Module, epochs: int) -> list[tuple[int, int]]:
        """List (epoch, expert) of each file that is not there, up to ``epochs``."""
        return self._work(network, self.epochs or epochs).missing()

    def folder(self, network: nn.Module) -> Path:
        """Return the folder in which the experts lie."""
        return self._store(network).folder

    def signature(self, network: nn.Module) -> str:
        """Return 8 hex digits that change with anything that changes an expert."""
        return signature(
            network,
            self.source,
            self.seed,
            recipe=self.recipe.settings(
                "batch_size", "lr", "weight_decay", "rho", "alpha", "precision"
            ),
            augment=repr(self.augment),
            dtype=self.dtype,
        )

    def _store(self, network: nn.Module) -> Store:
        """Return the network's store, made once per kind of device, as a signature takes time."""
        known = self._stores.setdefault(network, {})
        kind = device_of(network).type
        if kind not in known:
            folder = self.cache / "experts" / self.signature(network)
            known[kind] = Store(folder, DTYPES[self.dtype], network)
        return known[kind]

    def _work(self, network: nn.Module, epochs: int) -> Work:
        check_source(
            network, self.source, "An expert's trajectory", "an expert", "build it for this dataset"
        )
        device, num_images = device_of(network), len(self.source.train)
        batch_size, precision = self.recipe.batch_size, self.recipe.precision
        stacked = choose_stacked(
            network, "auto", min(batch_size, num_images), device.type, precision
        )
        # All of the work counts, not what is missing: trained once more it has to be the same.
        compiled = not stacked and pays(
            self.compile,
            network,
            self.source.train.x[:1].to(device),
            self.num_experts * epochs * num_images,
            SAVED_PER_TRAINED_VALUE,
        )
        step = TOGETHER if stacked else 1
        return Work(
            self._store(network),
            epochs,
            groups=[
                range(first, min(first + step, self.num_experts))
                for first in range(0, self.num_experts, step)
            ],
            start=partial(self._start, network),
            train=partial(self._train, network, stacked, compiled),
            exact=self.dtype == "float32",
        )

    def _start(self, network: nn.Module, group: range) -> Weights:
        """Draw the initial weights of ``group``, stacked, on the CPU, as torch does by default."""
        # On the CPU because the numbers that a GPU draws depend on its model.
        streams = [generator(self.seed, "expert", k, 0) for k in group]
        return draw_weights(deepcopy(network).cpu(), "default", streams)

    def _train(
        self,
        network: nn.Module,
        stacked: bool,
        compiled: bool,
        group: range,
        epoch: int,
        weights: Weights,
    ) -> Weights:
        """Train the stacked ``weights`` of ``group`` for one more epoch, its ``epoch``-th."""
        device = device_of(network)
        trained = fit(
            network,
            {name: w.to(device) for name, w in weights.items()},
            self.source.train.x.to(device),
            self.source.train.y.to(device),
            replace(self.recipe, stacked=stacked, compiled=compiled),
            generators=[generator(self.seed, "expert", k, epoch) for k in group],
            normalize=self.source.normalization.to(device),
            augment=self.augment,
        )
        if not all(bool(w.isfinite().all()) for w in trained.values()):
            raise DdistError(
                f"An expert's weights became nan or infinite in epoch {epoch}: try a smaller "
                f"trajectories.lr (now {self.recipe.lr:g})."
            )
        return trained
