"""What a run makes before its first step, cut to its share of a budget."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.experts import Trajectories
from ddist.formatting import format_duration, parse_duration
from ddist.generative import Autoencoder
from ddist.init import Pretrained
from ddist.methods.mtt import last_epoch
from ddist.tasks.build import build_trajectories
from ddist.tasks.claim import NOTE
from ddist.tasks.config import with_settings
from ddist.tasks.cost import (
    Clock,
    plain_training,
    seconds_left,
    seconds_per_image,
    seconds_per_step_of_autoencoder,
)
from ddist.tasks.names import chosen
from ddist.tasks.processes import first_process

log = logging.getLogger(__name__)

PREPARING = 0.3
"""Most of a budget that goes into what the first step needs: experts, teachers, embeddings."""
CHOOSING = 0.05
"""Most of a budget that goes into choosing the real images that the set is shown beside."""
CORESET = ("reference.coreset.epochs", "reference.coreset.per_class")
EMBEDDED = 1 / 3
"""What embedding an image takes, of training on it."""
FEWEST = 3  # epochs, below which fewer images are taken
EXPERTS, SUBSET = "trajectories.num_experts", "trajectories.subset"
FEWEST_EACH = 10  # images of a class that an expert sees
EMBEDDING = "method.embedding.epochs"
AUTOENCODER = "generative.steps"
POOL, POOL_EPOCHS = "init.num_networks", "init.epochs"


def prepared_within_budget(cfg: DictConfig, data: RealData, clock: Clock) -> DictConfig:
    """Return ``cfg`` with fewer experts (or one that sees fewer images) and networks of a pool, and
    shorter training of a teacher, of an embedding and of an autoencoder, where all of it would take
    more than its share of a budget."""
    wanted = {name: images for name, images in preparations(cfg, data).items() if images}
    if cfg.budget is None or not wanted:
        return cfg
    await_first_process(cfg)
    if begun := begun_with(cfg, [*wanted, POOL_EPOCHS, SUBSET]):
        return with_settings(cfg, begun)  # measured once, as other experts are another run
    left = seconds_left(cfg, clock)
    units = {name: OmegaConf.select(cfg, name) for name in wanted}
    prices = {}
    if EXPERTS in wanted:  # whose steps may have several gradients
        experts = build_trajectories(cfg, data)
        assert isinstance(experts, Trajectories)
        one = seconds_per_image(cfg, data, experts.recipe, experts.augment)
        prices[EXPERTS] = one * wanted[EXPERTS]
    if AUTOENCODER in wanted:
        prices[AUTOENCODER] = seconds_per_step_of_autoencoder(cfg, data)
    if others := {name: images for name, images in wanted.items() if name not in prices}:
        bf16 = cfg.trainer.precision == "bf16-mixed"
        one = seconds_per_image(cfg, data, plain_training("bf16-mixed" if bf16 else "32-true"))
        prices |= {name: one * images for name, images in others.items()}
    held_out = cfg.init.num_held_out if POOL in wanted else 0
    needed = sum(prices[name] * units[name] for name in wanted) + held_out * prices.get(POOL, 0.0)
    if needed <= PREPARING * left:
        return cfg
    share = PREPARING * left / needed
    fewer = {name: max(1, int(share * number)) for name, number in units.items()}
    if EXPERTS in wanted and (one_expert := share * units[EXPERTS]) < 1:
        seen = one_expert * seen_by_experts(cfg, data) / data.num_classes
        fewer[SUBSET] = max(FEWEST_EACH, int(seen))
    if POOL in wanted:  # one network, and those held out, may be too long already
        fit = share * (units[POOL] + held_out)
        fewer[POOL] = max(1, int(fit - held_out))
        longest = min(1.0, fit / (fewer[POOL] + held_out))
        fewer[POOL_EPOCHS] = max(1, int(longest * cfg.init.epochs))
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
    left = seconds_left(cfg, clock)
    allowed = CHOOSING * left / seconds_per_image(cfg, data, plain_training("32-true"))
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


def await_first_process(cfg: DictConfig) -> None:
    """Wait, in the other processes that torchrun or SLURM started for one run, until the first has
    noted its settings: each would measure other times by itself, and train other experts."""
    note = Path(cfg.paths.run) / NOTE
    until = time.monotonic() + parse_duration(cfg.budget)
    while not first_process() and not note.exists():
        if time.monotonic() > until:
            raise DdistError(f"The first process of this run has not begun: {note} is missing.")
        time.sleep(0.1)


def begun_with(cfg: DictConfig, names: Sequence[str]) -> dict[str, int]:
    """Return the settings ``names`` of the run in the folder, which goes on or which the first
    process has begun; none where there is no such run, or one of them is named now."""
    note = Path(cfg.paths.run) / NOTE
    goes_on = cfg.resume or not first_process()
    if not (goes_on and note.exists()) or chosen(*names):
        return {}
    earlier = OmegaConf.create(json.loads(note.read_text()))
    copied = ("trajectories", "teacher", "generative")  # to where the method has them
    copies = {n: f"method.{n}" if n.startswith(copied) else n for n in names}
    numbers = {name: OmegaConf.select(earlier, copy) for name, copy in copies.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def seen_by_experts(cfg: DictConfig, data: RealData) -> int:
    """Return how many real images an epoch of an expert sees."""
    most = cfg.trajectories.get("subset")
    return sum(data.train.counts if most is None else (min(most, n) for n in data.train.counts))


def preparations(cfg: DictConfig, data: RealData) -> dict[str, int]:
    """Return the settings that say how much is trained before the first step, and the images that
    each unit of them takes; 0 where nothing is."""
    num_images = len(data.train)
    method = cfg.method
    names = (EXPERTS, "teacher.epochs", EMBEDDING, AUTOENCODER, POOL)
    images = dict.fromkeys(names, 0)
    if "trajectories" in method and get_object(cfg.trajectories._target_) is Trajectories:
        epochs = last_epoch(method.max_start_epoch, method.expert_epochs)
        images[EXPERTS] = epochs * seen_by_experts(cfg, data)
    if "epochs" in cfg.teacher and ("teacher" in method or cfg.teacher.store):
        network = cfg.teacher.get("network")
        images["teacher.epochs"] = num_images * (len(network) if OmegaConf.is_list(network) else 1)
    if "embedding" in method:
        most = method.train_per_class or num_images
        images[EMBEDDING] = min(num_images, most * data.num_classes)
    if "generative" in method and get_object(method.generative._target_) is Autoencoder:
        images[AUTOENCODER] = method.generative.batch_size
    learns = get_object(method._target_).learns
    if learns and get_object(cfg.init._target_) is Pretrained and not cfg.init.fixed:
        images[POOL] = cfg.init.epochs * num_images
    return images
