"""Networks trained beforehand on a source dataset."""

import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init.base import InitialWeights
from ddist.init.pretraining import check_source, signature
from ddist.init.random import Random, device_of
from ddist.init.schemes import Scheme, draw_weights
from ddist.inner.fit import fit
from ddist.inner.recipe import Optimizer, TrainingRecipe
from ddist.inner.stacking import choose_stacked, concatenate, groups, singles
from ddist.networks.base import Weights
from ddist.seeding import generator
from ddist.settings.ranges import Momentum, NonNegative, NonNegativeInt, PositiveInt
from ddist.stages.progress import Progress
from ddist.stages.stopping import keeping
from ddist.storage.cache import cached_tensors

logger = logging.getLogger(__name__)


class Pretrained(InitialWeights):
    """A pool of networks trained on ``source`` (Wang et al. 2018, sections 3.4 and 4).

    The pool is trained once, by :meth:`prepare` or at the first draw, as many networks at a time as
    are computed together; these are kept as soon as they are trained. The whole pool is kept under
    ``<cache>/pool/<signature>.safetensors``; the signature covers all that changes it.

    Args:
        source: the data that the networks are trained on.
        num_networks: networks that training draws from, without replacement.
        num_held_out: further networks, kept for evaluation.
        fixed: a single network, always the same in training and evaluation.
        scheme: how the weights start, see :func:`ddist.init.schemes.draw_weights`.
        epochs, batch_size, optimizer, lr, momentum, weight_decay, lr_drops, lr_factor: of the
            :class:`ddist.inner.recipe.TrainingRecipe`.
        cache: the folder of ``paths.cache``.
        seed: the run's root seed.
    """

    trained = True

    def __init__(
        self,
        *,
        source: RealData,
        num_networks: PositiveInt,
        num_held_out: NonNegativeInt,
        fixed: bool,
        scheme: Scheme,
        epochs: NonNegativeInt,
        batch_size: PositiveInt,
        optimizer: Optimizer,
        lr: NonNegative,
        momentum: Momentum,
        weight_decay: NonNegative,
        lr_drops: Sequence[NonNegativeInt],
        lr_factor: NonNegative,
        cache: Path | str,
        seed: int,
    ) -> None:
        self.source = source
        self.num_networks: int = 1 if fixed else num_networks
        self.num_held_out: int = 0 if fixed else num_held_out
        self.single = fixed
        self.scheme = scheme
        self.recipe = TrainingRecipe(
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            lr_drops=tuple(lr_drops),
            lr_factor=lr_factor,
        )
        self.cache = Path(cache).expanduser()
        self.seed = seed
        self._pools: WeakKeyDictionary[nn.Module, Weights] = WeakKeyDictionary()

    def prepare(self, network: nn.Module) -> None:
        self._pool(network)

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        self.check_enough(num)
        pool = self._pool(network)
        if self.single:
            return {name: w.repeat_interleave(num, 0) for name, w in pool.items()}
        chosen = self._chosen(num, *keys)
        return {name: w[chosen.to(w.device)] for name, w in pool.items()}

    def start(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        """Return the ``num`` networks of the same :meth:`draw` as they were before training."""
        numbers = torch.zeros(num, dtype=torch.int64) if self.single else self._chosen(num, *keys)
        # As Random draws the whole pool in _train.
        device = device_of(network)
        streams = [generator(self.seed, "init", "pool", k, device=device) for k in numbers.tolist()]
        return draw_weights(network, self.scheme, streams)

    def _chosen(self, num: int, *keys: int | str) -> Tensor:
        """Draw the indices of ``num`` different networks of the pool: int64 [num]."""
        stream = generator(self.seed, "init", *keys)
        return torch.randperm(self.num_networks, generator=stream)[:num]

    def held_out(self, network: nn.Module, num: int) -> Weights:
        if self.single:
            return self.draw(network, 1)
        if num > self.num_held_out:
            raise DdistError(
                f"The evaluation asks for {num} held-out networks, but "
                f"init.num_held_out={self.num_held_out}: pre-train more or evaluate fewer."
            )
        first = self.num_networks
        return {name: w[first : first + num].clone() for name, w in self._pool(network).items()}

    def signature(self, network: nn.Module) -> str:
        """Return 8 hex digits that change with anything that changes the pool."""
        return signature(
            network,
            self.source,
            self.seed,
            networks=[self.num_networks, self.num_held_out],
            scheme=self.scheme,
            recipe=self.recipe.settings(
                "epochs",
                "batch_size",
                "optimizer",
                "lr",
                "momentum",
                "weight_decay",
                "lr_drops",
                "lr_factor",
            ),
        )

    def missing(self, network: nn.Module) -> int:
        """Return how many networks are still to be trained."""
        there = network in self._pools or self._file(network).exists()
        return 0 if there else self.num_networks + self.num_held_out

    def _file(self, network: nn.Module) -> Path:
        return self.cache / "pool" / f"{self.signature(network)}.safetensors"

    def _pool(self, network: nn.Module) -> Weights:
        """Return all networks, trained first where they are not yet, stacked on the device of
        ``network``: those for training, then those held out."""
        if network not in self._pools:
            path = self._file(network)
            check_source(
                network,
                self.source,
                "init=pretrained",
                "pre-trained",
                "choose a source with as many classes, and give both datasets the same size and "
                "channels",
            )
            pool = cached_tensors(path, lambda: self._train(network, path.with_suffix("")))
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # its parts
            self._pools[network] = pool
        device = device_of(network)  # it may have moved since the last draw
        self._pools[network] = {name: w.to(device) for name, w in self._pools[network].items()}
        return self._pools[network]

    def _train(self, network: nn.Module, folder: Path) -> Weights:
        """Train all networks, stacked; those that are trained together are kept in ``folder``."""
        num = self.num_networks + self.num_held_out
        logger.info("Training %d networks on %s; this is done once.", num, self.source.name)
        start = Random(self.scheme, self.seed).draw(network, num, "pool")
        slices = self._together(network, start)
        files = [
            folder / f"{networks.start:04d}-{networks.stop:04d}.safetensors" for networks in slices
        ]
        epochs = self.recipe.epochs

        def kept() -> str:
            there = [
                networks for networks, file in zip(slices, files, strict=True) if file.exists()
            ]
            done = sum(networks.stop - networks.start for networks in there)
            return (
                f"{done} of {num} pre-trained networks are kept in {folder}, and the same command "
                "trains the rest"
            )

        before = epochs * sum(file.exists() for file in files)
        with (
            keeping(kept),
            Progress("pre-training", "epochs", len(slices) * epochs, before=before) as progress,
        ):
            trained = []
            for index, (networks, file) in enumerate(zip(slices, files, strict=True)):
                weights = cached_tensors(
                    file, partial(self._fit, network, start, networks, index * epochs, progress)
                )
                trained.append({name: w.to(device_of(network)) for name, w in weights.items()})
        return concatenate(trained)

    def _together(self, network: nn.Module, weights: Weights) -> list[slice]:
        """Return the slices of the stacked ``weights`` that are each trained in one call."""
        size = min(self.recipe.batch_size, len(self.source.train))
        stacked = choose_stacked(network, "auto", size, device_of(network).type)
        return list(groups(weights, size)) if stacked else singles(weights)

    def _fit(
        self, network: nn.Module, start: Weights, members: slice, done: int, progress: Progress
    ) -> Weights:
        """Train the ``members`` of the stacked weights ``start``, and report progress on from the
        ``done`` epochs of others."""
        device = device_of(network)
        numbers = range(members.start, members.stop)
        return fit(
            network,
            {name: w[members] for name, w in start.items()},
            self.source.train.x.to(device),
            self.source.train.y.to(device),
            self.recipe,
            generators=[generator(self.seed, "pool", "order", k) for k in numbers],
            normalize=self.source.normalization.to(device),
            progress=lambda epoch, _: progress.to(done + epoch),
        )
