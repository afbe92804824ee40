"""How a budget is divided: what the evaluation takes is measured first, and cut to its share."""

import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig

from ddist.data import RealData
from ddist.evaluation import Evaluator, Replay, Training
from ddist.formatting import format_duration, parse_duration
from ddist.init import InitialWeights
from ddist.settings.auto import AUTO, budget
from ddist.tasks.config import conf_dir, with_settings
from ddist.tasks.cost import (
    FINISHING,
    Clock,
    Cost,
    changed,
    evaluator_of,
    fewer,
    measured,
    num_examples,
    stand_in,
)
from ddist.tasks.names import chosen, option_of
from ddist.tasks.recipes import recipes
from ddist.tasks.teachers import FindTeacher

log = logging.getLogger(__name__)

SHARE = 0.4
"""Most of a budget that goes into the evaluation, of what is left once the data is read."""
LEAST_NETWORKS = 3  # that are left of more: with two, an interval says nothing
LEAST_EPOCHS = 10
LEAST_TESTED = 2000  # images, 10 of each class at least, that are tested of more
TESTING = 0.5
"""Most of a network's time that goes into testing it, where not all test images can be."""
JUDGED = 0.2
"""The part of a row that it takes to judge a set beside its start (see tasks/selection.py)."""
REPLAYED = 0.3
"""The part of a row that it takes to replay learned step sizes, for which no grid is tried."""


def with_budget(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with a budget, or without one, where it says ``auto``."""
    if cfg.budget != AUTO:
        if cfg.budget is not None and not cfg.recipe and (paper := known_recipe()):
            log.info(
                "No paper's schedule fits a budget: these are the settings for any data "
                "(recipe=%s for the paper's).",
                paper,
            )
        return cfg
    cfg = with_usual_budget(cfg)
    if cfg.budget is not None:
        log.info(
            "No paper says how long this takes: the whole command has %s (budget=%s; budget=null "
            "for all %d steps, or steps=…).",
            format_duration(parse_duration(cfg.budget)),
            cfg.budget,
            cfg.steps,
        )
    return cfg


def with_usual_budget(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with the budget that a run of it has, where it says ``auto``: networks follow
    it (see :func:`ddist.settings.auto.width`)."""
    if cfg.budget != AUTO:
        return cfg
    learns = get_object(cfg.method._target_).learns
    named = chosen("steps", "experiment")  # a preset knows how long it takes
    return with_settings(cfg, {"budget": budget(cfg.recipe is not None, learns, named)})


def known_recipe() -> str | None:
    """Return the name of the recipe for the run's method and dataset, unless the command line says
    anything of recipes or takes a preset; None where there is none."""
    if chosen("recipe", "experiment"):
        return None
    pair = option_of("method"), option_of("dataset")
    known = {(method, dataset) for _, method, dataset, _ in recipes(conf_dir() / "recipe")}
    name = "/".join(pair)
    folders = [Path(s.path) for s in HydraConfig.get().runtime.config_sources if s.schema == "file"]
    own = any((folder / "recipe" / f"{name}.yaml").is_file() for folder in folders)
    return name if own or pair in known else None


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
    then on fewer test images, down to ``LEAST_TESTED``, then for fewer epochs: the same for all
    rows, under a name of its own.
    """
    if cfg.budget is None:
        return cfg, 0.0
    evaluator = partial(evaluator_of, cfg, data=data, init=init, teacher=teacher)
    evaluator().prepare(data)
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
    protocol, distilled = evaluator().protocol, stand_in(cfg, data)
    networks = protocol.num_networks if isinstance(protocol, Training | Replay) else 1
    passes = 1
    if isinstance(protocol, Training):
        passes = protocol.schedule(len(distilled.images)).passes
    cost = measured(evaluator, protocol, distilled, data, passes)
    rows = num_rows(cfg, data, baseline)
    learns = get_object(cfg.method._target_).learns
    allowed = (SHARE if learns else 1.0) * max(0.0, left) / rows
    planned = Amounts(networks, passes, min(len(data.test), cfg.evaluation.test_images or 2**31))
    least = max(LEAST_TESTED, 10 * data.num_classes)
    kept = cut(cost, planned, allowed, least)
    reserve = FINISHING + rows * cost.seconds(*kept)
    if kept == planned:
        return cfg, reserve
    log.info(
        "The evaluation of %s would take %s of the budget: it has %s.",
        planned.words(isinstance(protocol, Training)),
        format_duration(rows * cost.seconds(*planned)),
        kept.words(isinstance(protocol, Training)),
    )
    shorter = fewer(protocol, kept.networks)
    if kept.passes < planned.passes:
        shorter["epochs"] = kept.passes
    if kept.tests < planned.tests:
        shorter["test_images"] = kept.tests
    return changed(cfg, shorter), reserve


def num_rows(cfg: DictConfig, data: RealData, baseline: bool) -> float:
    """Return how many rows of results a run has to wait for, in those of whole protocols."""
    learns = get_object(cfg.method._target_).learns
    judged = learns and data.validation is not None
    variants = cfg.method.get("ema") is not None
    chosen = cfg.reference.coreset.select is not None
    protocol = get_object(cfg.evaluation._target_)
    sets = 1 + protocol.num_beside + len(cfg.reference.starts)
    beside = baseline * sets
    own = REPLAYED if issubclass(protocol, Replay) and "step_size" in cfg.method else 1.0
    return own + beside + chosen + variants + (2 * JUDGED if judged else 0)


class Amounts(NamedTuple):
    """How much a row of results is measured by."""

    networks: int
    passes: int
    tests: int

    def words(self, epochs: bool) -> str:
        trained = f" for {self.passes} epochs" if epochs else ""
        return f"{self.networks} networks{trained} on {self.tests} test images"


def cut(cost: Cost, planned: Amounts, allowed: float, least_tested: int) -> Amounts:
    """Return the networks, passes and test images that take at most ``allowed`` seconds, or the
    fewest."""
    networks, passes, tests = planned
    few = min(networks, LEAST_NETWORKS)
    while networks > few and cost.seconds(networks, passes, tests) > allowed:
        networks -= 1
    if cost.seconds(networks, passes, tests) > allowed and cost.per_test > 0:
        most = int(TESTING * allowed / networks / cost.per_test)
        tests = min(tests, max(most, least_tested))
    while passes > LEAST_EPOCHS and cost.seconds(networks, passes, tests) > allowed:
        passes = max(LEAST_EPOCHS, int(passes * 0.95))
    return Amounts(networks, passes, tests)


def judge_of(
    cfg: DictConfig, data: RealData, init: InitialWeights, teacher: FindTeacher
) -> Evaluator:
    """Build what judges a set beside its start: the protocol with few networks and short."""
    evaluator = evaluator_of(cfg, data=data, init=init, teacher=teacher)
    protocol, settings = evaluator.protocol, {}
    if isinstance(protocol, Training | Replay):
        settings["num_networks"] = min(LEAST_NETWORKS, protocol.num_networks)
    if isinstance(protocol, Training):
        passes = protocol.schedule(num_examples(cfg) * data.num_classes).passes
        settings["epochs"] = max(LEAST_EPOCHS, passes // 4)
    return evaluator_of(cfg, settings, data=data, init=init, teacher=teacher)
