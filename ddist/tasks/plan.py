"""How a budget is divided: what the evaluation takes is measured first, and cut to its share."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from hydra.utils import get_object
from omegaconf import DictConfig

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Evaluator, Replay, Training
from ddist.formatting import format_duration, parse_duration
from ddist.init import InitialWeights
from ddist.seeding import generator
from ddist.settings.auto import AUTO, budget
from ddist.synthetic.start import start_images
from ddist.synthetic.steps import spread_over_steps
from ddist.tasks.build import FindTeacher, build_evaluator
from ddist.tasks.names import chosen
from ddist.tasks.timing import seconds_of, tested_on_fewer

log = logging.getLogger(__name__)

SHARE = 0.4
"""Most of a budget that goes into the evaluation, of what is left once the data is read."""
FINISHING = 6.0
"""Seconds that are kept for pictures, the page and the table."""
LEAST_NETWORKS = 3  # that are left of more: with two, an interval says nothing
LEAST_EPOCHS = 10
JUDGED = 0.2
"""The part of a row that it takes to judge a set beside its start (see tasks/selection.py)."""
FEW_TESTED, MORE_TESTED = 100, 400


class Clock:
    """Counts the seconds of a command, ``before`` of which are over."""

    def __init__(self, before: float) -> None:
        self._began = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._began


@dataclass(frozen=True)
class Cost:
    """The seconds that a row of results takes: ``fixed``, and more for each of ``networks`` at
    ``per_network`` for a pass over the set, and ``testing``."""

    fixed: float
    per_pass: float
    testing: float

    def seconds(self, networks: int, passes: int) -> float:
        return self.fixed + networks * (passes * self.per_pass + self.testing)


def with_budget(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with a budget, or without one, where it says ``auto``."""
    if cfg.budget != AUTO:
        return cfg
    learns = get_object(cfg.method._target_).learns
    named = chosen("steps", "experiment")  # a preset knows how long it takes
    chosen_budget = budget(cfg.recipe is not None, learns, named)
    if chosen_budget is not None:
        log.info(
            "No paper says how long this takes: the whole command has %s (budget=%s; budget=null "
            "for all %d steps, or steps=…).",
            format_duration(parse_duration(chosen_budget)),
            chosen_budget,
            cfg.steps,
        )
    filled = cfg.copy()
    filled.budget = chosen_budget
    return filled


def within_budget(
    cfg: DictConfig,
    data: RealData,
    init: InitialWeights,
    teacher: FindTeacher,
    clock: Clock,
    *,
    baseline: bool,
) -> tuple[DictConfig, float]:
    """Return ``cfg`` with an evaluation that takes its share of the budget, which ``clock`` counts,
    and the seconds to keep for it; without a budget ``cfg`` as it is, and none.

    Where all of it would be too long, fewer networks are evaluated, down to ``LEAST_NETWORKS``,
    then for fewer epochs: the same for all rows, under a name of its own.
    """
    if cfg.budget is None:
        return cfg, 0.0
    spent = clock.seconds()
    left = parse_duration(cfg.budget) - spent - FINISHING
    if left <= 0:
        log.warning(
            "The budget of %s leaves no time for steps: starting and reading the data took %s, and "
            "the end takes %s. The least that is possible is done.",
            format_duration(parse_duration(cfg.budget)),
            format_duration(spent),
            format_duration(FINISHING),
        )
    evaluator = partial(evaluator_of, cfg, data=data, init=init, teacher=teacher)
    protocol = evaluator().protocol
    if not isinstance(protocol, Training | Replay):
        return cfg, FINISHING
    distilled = stand_in(cfg, data)
    networks = protocol.num_networks
    passes = 1
    if isinstance(protocol, Training):
        passes = protocol.schedule(len(distilled.images)).passes
    cost = measured(evaluator, protocol, distilled, data, passes)
    rows = num_rows(cfg, data, baseline)
    allowed = SHARE * max(0.0, left) / rows
    fewer, short = cut(cost, networks, passes, allowed)
    reserve = FINISHING + rows * cost.seconds(fewer, short)
    if (fewer, short) == (networks, passes):
        return cfg, reserve
    log.info(
        "The evaluation of %d networks%s would take %s of the budget: it has %d%s.",
        networks,
        f" for {passes} epochs" if isinstance(protocol, Training) else "",
        format_duration(rows * cost.seconds(networks, passes)),
        fewer,
        f" for {short} epochs" if isinstance(protocol, Training) else "",
    )
    shorter = {"num_networks": fewer}
    if short < passes:
        shorter["epochs"] = short
    return changed(cfg, shorter), reserve


def num_rows(cfg: DictConfig, data: RealData, baseline: bool) -> float:
    """Return how many rows of results a run has to wait for, in those of whole protocols."""
    learns = get_object(cfg.method._target_).learns
    judged = learns and data.validation is not None
    variants = cfg.method.get("ema") is not None
    return 1 + baseline + variants + (2 * JUDGED if judged else 0)


def cut(cost: Cost, networks: int, passes: int, allowed: float) -> tuple[int, int]:
    """Return how many networks and passes take at most ``allowed`` seconds, or the fewest."""
    few = min(networks, LEAST_NETWORKS)
    while networks > few and cost.seconds(networks, passes) > allowed:
        networks -= 1
    while passes > LEAST_EPOCHS and cost.seconds(networks, passes) > allowed:
        passes = max(LEAST_EPOCHS, int(passes * 0.95))
    return networks, passes


def measured(
    evaluator: partial[Evaluator],
    protocol: Training | Replay,
    distilled: DistilledDataset,
    data: RealData,
    passes: int,
) -> Cost:
    """Return what a row costs, from few networks, passes and test images."""
    together = min(protocol.num_networks, protocol.chunk, LEAST_NETWORKS)

    def seconds(networks: int, epochs: int, tested: int) -> float:
        settings = {"num_networks": networks}
        if isinstance(protocol, Training):
            settings["epochs"] = epochs
        else:
            settings["tuning_networks"] = min(protocol.tuning_networks, networks)
        few = tested_on_fewer(data, tested)
        short = evaluator(settings)
        return seconds_of(partial(Evaluator.run, short, distilled, few))

    seconds(together, 1, FEW_TESTED)  # warms up
    base = seconds(together, 1, FEW_TESTED)
    tested = seconds(together, 1, MORE_TESTED) - base
    testing = max(0.0, tested) / (MORE_TESTED - FEW_TESTED) * len(data.test) / together
    if isinstance(protocol, Replay):
        return Cost(0.0, base / together, testing)
    longer = max(0.0, seconds(together, 1 + min(3, passes), FEW_TESTED) - base) / min(3, passes)
    return Cost(max(0.0, base - longer), longer / together, testing)


def evaluator_of(
    cfg: DictConfig,
    settings: Mapping[str, int] | None = None,
    *,
    data: RealData,
    init: InitialWeights,
    teacher: FindTeacher,
) -> Evaluator:
    """Build the evaluator of ``cfg`` with other ``evaluation.*`` ``settings``."""
    short = cfg if settings is None else changed(cfg, settings)
    return build_evaluator(short, "network", data, init, teacher)


def changed(cfg: DictConfig, settings: Mapping[str, int]) -> DictConfig:
    """Return ``cfg`` with other ``evaluation.*`` ``settings``; a protocol of other epochs has a
    name of its own, as no two protocols share a column."""
    other = cfg.copy()
    for name, value in settings.items():
        # a copy would merge, and leave some of the rows by the number of images
        other.evaluation[name] = value
    if "epochs" in settings:
        other.evaluation.name = f"{cfg.evaluation.name}, {settings['epochs']} epochs"
    return other


def judge_of(
    cfg: DictConfig, data: RealData, init: InitialWeights, teacher: FindTeacher
) -> Evaluator:
    """Build what judges a set beside its start: the protocol with few networks and short."""
    evaluator = evaluator_of(cfg, data=data, init=init, teacher=teacher)
    protocol, settings = evaluator.protocol, {}
    if isinstance(protocol, Training | Replay):
        settings["num_networks"] = min(LEAST_NETWORKS, protocol.num_networks)
    if isinstance(protocol, Training):
        passes = protocol.schedule(cfg.ipc * data.num_classes).passes
        settings["epochs"] = max(LEAST_EPOCHS, passes // 4)
    return evaluator_of(cfg, settings, data=data, init=init, teacher=teacher)


def stand_in(cfg: DictConfig, data: RealData) -> DistilledDataset:
    """Return random real images in the place of the set that is to be learned."""
    each = cfg.ipc * cfg.synthetic.factor**2  # training images, whatever is stored
    labels, step_index = spread_over_steps([each] * data.num_classes, data.num_classes, 1)
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
