"""How a budget is divided: what the evaluation takes is measured first, and cut to its share."""

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from ddist.data import RealData
from ddist.evaluation import Evaluator, Replay, Training
from ddist.formatting import format_duration, parse_duration
from ddist.init import InitialWeights
from ddist.methods.mtt import last_epoch
from ddist.settings.auto import AUTO, budget
from ddist.tasks.build import FindTeacher
from ddist.tasks.claim import NOTE
from ddist.tasks.config import with_settings
from ddist.tasks.cost import (
    Clock,
    Cost,
    changed,
    evaluator_of,
    measured,
    num_examples,
    seconds_per_image,
    stand_in,
)
from ddist.tasks.names import chosen

log = logging.getLogger(__name__)

SHARE = 0.4
"""Most of a budget that goes into the evaluation, of what is left once the data is read."""
PREPARING = 0.3
"""Most of a budget that goes into what the first step needs: experts, teachers, embeddings."""
CHOOSING = 0.05
"""Most of a budget that goes into choosing the real images that the set is shown beside."""
CORESET = ("reference.coreset.epochs", "reference.coreset.per_class")
EMBEDDED = 1 / 3
"""What embedding an image takes, of training on it."""
FEWEST = 3  # epochs, below which fewer images are taken
EMBEDDING = "method.embedding.epochs"
FINISHING = 6.0
"""Seconds that are kept for pictures, the page and the table."""
LEAST_NETWORKS = 3  # that are left of more: with two, an interval says nothing
LEAST_EPOCHS = 10
JUDGED = 0.2
"""The part of a row that it takes to judge a set beside its start (see tasks/selection.py)."""


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
    return with_settings(cfg, {"budget": chosen_budget})


def prepared_within_budget(cfg: DictConfig, data: RealData, clock: Clock) -> DictConfig:
    """Return ``cfg`` with fewer experts, and shorter training of a teacher and of an embedding,
    where all of it would take more than its share of a budget."""
    wanted = {name: images for name, images in preparations(cfg, data).items() if images}
    if cfg.budget is None or not wanted:
        return cfg
    if begun := begun_with(cfg, list(wanted)):
        return with_settings(cfg, begun)  # measured once, as other experts are another run
    left = max(0.0, parse_duration(cfg.budget) - clock.seconds() - FINISHING)
    bf16 = cfg.trainer.precision == "bf16-mixed"
    one = seconds_per_image(cfg, data, "bf16-mixed" if bf16 else "32-true")
    needed = one * sum(OmegaConf.select(cfg, name) * wanted[name] for name in wanted)
    if needed <= PREPARING * left:
        return cfg
    share = PREPARING * left / needed
    fewer = {name: max(1, int(share * OmegaConf.select(cfg, name))) for name in wanted}
    log.info(
        "What the first step needs would take %s of the budget: %s.",
        format_duration(needed),
        " ".join(f"{name}={number}" for name, number in fewer.items()),
    )
    return with_settings(cfg, fewer)


def coreset_within_budget(cfg: DictConfig, data: RealData, clock: Clock) -> DictConfig:
    """Return ``cfg`` with a choice of real images, beside the set, that takes its share of a
    budget: from fewer epochs, then from fewer images."""
    if cfg.budget is None or cfg.reference.coreset.select is None:
        return cfg
    if begun := begun_with(cfg, CORESET):
        return with_settings(cfg, begun)
    left = max(0.0, parse_duration(cfg.budget) - clock.seconds() - FINISHING)
    allowed = CHOOSING * left / seconds_per_image(cfg, data, "32-true")
    epochs, per_class = (OmegaConf.select(cfg, name) for name in CORESET)
    images = sum(min(per_class, count) for count in data.train.counts)
    if images * (epochs + EMBEDDED) <= allowed:
        return cfg
    epochs, most = int(allowed / images - EMBEDDED), epochs
    if epochs < FEWEST:
        epochs = min(most, FEWEST)
        fewer = int(allowed / (epochs + EMBEDDED) / data.num_classes)
        per_class = min(per_class, max(fewer, cfg.ipc))
    return with_settings(cfg, dict(zip(CORESET, (epochs, per_class), strict=True)))


def begun_with(cfg: DictConfig, names: Sequence[str]) -> dict[str, int]:
    """Return the settings ``names`` of the run in the folder, which goes on; none where there is no
    such run, or one of them is named now."""
    note = Path(cfg.paths.run) / NOTE
    if not (cfg.resume and note.exists()) or chosen(*names):
        return {}
    earlier = OmegaConf.create(json.loads(note.read_text()))
    copied = ("trajectories", "teacher")  # to where the method has them
    copies = {n: f"method.{n}" if n.startswith(copied) else n for n in names}
    numbers = {name: OmegaConf.select(earlier, copy) for name, copy in copies.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def preparations(cfg: DictConfig, data: RealData) -> dict[str, int]:
    """Return the settings that say how much is trained before the first step, and the images that
    each unit of them takes; 0 where nothing is."""
    num_images = len(data.train)
    method = cfg.method
    images = dict.fromkeys(("trajectories.num_experts", "teacher.epochs", EMBEDDING), 0)
    if "trajectories" in method and "num_experts" in cfg.trajectories:
        epochs = last_epoch(method.max_start_epoch, method.expert_epochs)
        images["trajectories.num_experts"] = epochs * num_images
    if "epochs" in cfg.teacher and ("teacher" in method or cfg.teacher.store):
        images["teacher.epochs"] = num_images
    if "embedding" in method:
        most = method.train_per_class or num_images
        images[EMBEDDING] = min(num_images, most * data.num_classes)
    return images


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
    chosen = cfg.reference.coreset.select is not None
    sets = 1 + get_object(cfg.evaluation._target_).num_beside + len(cfg.reference.starts)
    beside = baseline * sets
    return 1 + beside + chosen + variants + (2 * JUDGED if judged else 0)


def cut(cost: Cost, networks: int, passes: int, allowed: float) -> tuple[int, int]:
    """Return how many networks and passes take at most ``allowed`` seconds, or the fewest."""
    few = min(networks, LEAST_NETWORKS)
    while networks > few and cost.seconds(networks, passes) > allowed:
        networks -= 1
    while passes > LEAST_EPOCHS and cost.seconds(networks, passes) > allowed:
        passes = max(LEAST_EPOCHS, int(passes * 0.95))
    return networks, passes


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
