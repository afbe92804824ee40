"""What parts of a run take on this machine, measured on little of each."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.normalization import to_unit
from ddist.data import RealData
from ddist.evaluation import Evaluator, LinearProbe, Protocol, Replay, Training
from ddist.formatting import parse_duration
from ddist.generative.autoencoder import Autoencoder, negative_elbo
from ddist.init import InitialWeights, Random
from ddist.inner.fit import fit
from ddist.inner.minibatches import Augment
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.stacking import Precision
from ddist.seeding import generator
from ddist.synthetic.start import start_images
from ddist.synthetic.steps import spread_over_steps
from ddist.tasks.build import build_evaluator
from ddist.tasks.config import examples_each, with_settings
from ddist.tasks.networks import build_network
from ddist.tasks.targets import make
from ddist.tasks.teachers import FindTeacher
from ddist.tasks.timing import seconds_of, tested_on_fewer

FEW_TESTED, MORE_TESTED = 100, 400
FINISHING = 6.0
"""Seconds that are kept for pictures, the page and the table."""
TOGETHER = 3  # networks that are timed at a time


class Clock:
    """Counts the seconds of a command, ``before`` of which are over."""

    def __init__(self, before: float) -> None:
        self._began = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._began


def seconds_left(cfg: DictConfig, clock: Clock) -> float:
    """Return what is left of the budget of ``cfg``, but for what finishing takes."""
    return max(0.0, parse_duration(cfg.budget) - clock.seconds() - FINISHING)


@dataclass(frozen=True)
class Cost:
    """The seconds that a row of results takes: ``fixed``, and of each network ``per_pass`` over the
    set, and ``per_test`` of a test image."""

    fixed: float
    per_pass: float
    per_test: float

    def seconds(self, networks: int, passes: int, tests: int) -> float:
        return self.fixed + networks * (passes * self.per_pass + tests * self.per_test)


def plain_training(precision: Precision) -> TrainingRecipe:
    """Return the training that most of what is prepared costs about as much as."""
    return TrainingRecipe(
        epochs=1,
        batch_size=128,
        optimizer="sgd",
        lr=0.01,
        momentum=0.0,
        weight_decay=0.0,
        precision=precision,
    )


def seconds_per_image(
    cfg: DictConfig, data: RealData, recipe: TrainingRecipe, augment: Augment | None = None
) -> float:
    """Return the seconds that an image takes in the training of a network by ``recipe``, which has
    one epoch."""
    network = build_network(cfg.network, data).to(data.device)
    few = stand_in(cfg, data)
    x, y = few.images.to(data.device), few.labels.to(data.device)
    weights = Random("default", cfg.seed).held_out(network, 1)
    options: dict[str, Any] = {"generators": [generator(cfg.seed)], "augment": augment}
    once = partial(fit, network, weights, x, y, recipe, **options)
    once()  # warms up
    return seconds_of(once) / len(few.images)


def seconds_per_step_of_autoencoder(cfg: DictConfig, data: RealData) -> float:
    """Return the seconds that a step of training the autoencoder of ``cfg`` takes."""
    pair: Autoencoder = make(cfg.method.generative)
    pair.file(data, cfg.seed)  # builds the network
    x = to_unit(data.train.x[: cfg.method.generative.batch_size])
    epsilon = torch.zeros(len(x), pair.dims, device=x.device)

    def once() -> None:
        negative_elbo(pair.network, x, epsilon, 1.0).backward()

    once()  # warms up
    return seconds_of(once) * cfg.method.generative.batch_size / len(x)


def measured(
    evaluator: partial[Evaluator],
    protocol: Protocol,
    distilled: DistilledDataset,
    data: RealData,
    passes: int,
) -> Cost:
    """Return what a row costs, from few networks, passes and test images."""
    together = 1
    if isinstance(protocol, Training | Replay):
        together = min(protocol.num_networks, protocol.chunk, TOGETHER)

    def seconds(networks: int, epochs: int, tested: int, sizes: int = 1) -> float:
        settings: dict[str, Any] = {**fewer(protocol, networks)}
        if isinstance(protocol, Training):
            settings["epochs"] = epochs
        elif isinstance(protocol, Replay):
            settings["step_size_grid"] = protocol.step_size_grid[:sizes]
        few = tested_on_fewer(data, tested)
        short = evaluator(settings)
        return seconds_of(partial(Evaluator.run, short, distilled, few))

    seconds(together, 1, FEW_TESTED)  # warms up
    if isinstance(protocol, LinearProbe):
        seconds(together, 1, MORE_TESTED)  # the features of real images are counted elsewhere
    base = seconds(together, 1, FEW_TESTED)
    longer = seconds(together, 1, MORE_TESTED) - base
    per_test = max(0.0, longer) / (MORE_TESTED - FEW_TESTED) / together
    if isinstance(protocol, Replay) and (others := len(protocol.step_size_grid) - 1):
        base += others * max(0.0, seconds(together, 1, FEW_TESTED, sizes=2) - base)
    if not isinstance(protocol, Training):
        return Cost(0.0, base / together, per_test)
    longer = max(0.0, seconds(together, 1 + min(3, passes), FEW_TESTED) - base) / min(3, passes)
    return Cost(max(0.0, base - longer), longer / together, per_test)


def fewer(protocol: Protocol, networks: int) -> dict[str, int]:
    """Return the settings of ``protocol`` for that many networks, where it counts any; no more of
    them judge a grid."""
    if isinstance(protocol, Replay):
        tuning = min(protocol.tuning_networks, networks)
        return {"num_networks": networks, "tuning_networks": tuning}
    return {"num_networks": networks} if isinstance(protocol, Training) else {}


def evaluator_of(
    cfg: DictConfig,
    settings: Mapping[str, Any] | None = None,
    *,
    data: RealData,
    init: InitialWeights,
    teacher: FindTeacher,
) -> Evaluator:
    """Build the evaluator of ``cfg`` with other ``evaluation.*`` ``settings``."""
    short = cfg if settings is None else changed(cfg, settings)
    return build_evaluator(short, "network", data, init, teacher)


def changed(cfg: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """Return ``cfg`` with other ``evaluation.*`` ``settings``; a protocol of other epochs or test
    images has a name of its own, as no two protocols share a column."""
    name = cfg.evaluation.name
    for key, unit in (("epochs", "epochs"), ("test_images", "test images")):
        if key in settings:
            name = f"{name}, {settings[key]} {unit}"
    values = {**settings, "name": name}
    return with_settings(cfg, {f"evaluation.{k}": v for k, v in values.items()})


def num_examples(cfg: DictConfig) -> int:
    """Return the images of a class that networks train on, however few are stored."""
    return int(cfg.ipc * examples_each(cfg))


def stand_in(cfg: DictConfig, data: RealData) -> DistilledDataset:
    """Return random real images in the place of the set that is to be learned."""
    counts = [num_examples(cfg)] * data.num_classes
    labels, step_index = spread_over_steps(counts, data.num_classes, 1)
    images = start_images("real", data, labels, generator(cfg.seed, "plan"))
    return DistilledDataset(
        images=images.cpu(),
        labels=labels,
        step_index=step_index,
        normalization=data.normalization.state(),
        meta={
            "dataset": data.name,
            "method": "random",
            "ipc": cfg.ipc,
            "num_classes": data.num_classes,
            "class_names": list(data.class_names),
            "image_shape": list(data.image_shape),
        },
        config="",
    )
