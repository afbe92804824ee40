"""Memories of classes that come in steps: what is distilled or selected at each, and joined."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.methods import Method
from ddist.seeding import generator
from ddist.tasks.build import build_init, build_method
from ddist.tasks.claim import claim
from ddist.tasks.config import read_option, to_plain, with_settings
from ddist.tasks.fitting import describe, fit, leave_if_interrupted
from ddist.tasks.teachers import shared_teacher

log = logging.getLogger(__name__)

UNUSED = ("budget", "time_estimate", "images")
"""The callbacks that a step does without: they are about a whole run."""


def class_orders(num_classes: int, steps: int, orders: int, seed: int) -> list[list[list[int]]]:
    """Draw ``orders`` of the classes, each in ``steps`` groups; the first groups have one more
    where they cannot all be as large. Raise a DdistError where a group would have one class."""
    if num_classes < 2 * steps:
        raise DdistError(
            f"task.steps={steps} needs 2 classes in each step, but there are {num_classes}: choose "
            f"at most {num_classes // 2} steps."
        )
    drawn = (
        torch.randperm(num_classes, generator=generator(seed, "order", k)) for k in range(orders)
    )
    return [[group.tolist() for group in order.tensor_split(steps)] for order in drawn]


def build_step(cfg: DictConfig, data: RealData) -> Method:
    """Build the method of ``cfg`` for the classes of one step. Raise a DdistError where what it
    makes cannot be joined with that of other classes."""
    method = build_method(cfg, data, build_init(cfg, data), shared_teacher(cfg, data))
    tensors = method.tensors()
    if tensors["labels"].is_floating_point() or tensors.get("step_sizes") is not None:
        raise DdistError(
            "task=continual joins images of different classes, which must have hard labels and no "
            "learned step sizes: set synthetic.labels=hard, or choose a method such as dm."
        )
    return method


def memory(cfg: DictConfig, data: RealData) -> DistilledDataset:
    """Return the memory of the classes of ``data`` that the method of ``cfg`` makes; what lies in
    ``cfg.paths.run`` of it is taken or gone on with."""
    folder = Path(cfg.paths.run)
    claim(folder, cfg)
    if (folder / "distilled").exists():
        return DistilledDataset.load(folder / "distilled")
    method = build_step(cfg, data)
    callbacks = {k: v for k, v in to_plain(cfg.callbacks).items() if k not in UNUSED and v}
    logger = instantiate(read_option("logger", "none"))
    trainer = fit(cfg, method, folder, logger, list(instantiate(callbacks).values()))
    leave_if_interrupted(trainer, folder)
    distilled = describe(cfg, method, trainer.global_step)
    distilled.save(folder / "distilled")
    return distilled


def joined(parts: Sequence[DistilledDataset], data: RealData) -> DistilledDataset:
    """Return the memory of all classes of ``data``, of which ``parts`` hold some each, in their
    order."""
    offsets = [0]
    for part in parts:
        offsets.append(offsets[-1] + part.meta["num_classes"])
    labels = [part.labels + offset for part, offset in zip(parts, offsets, strict=False)]
    weights = [part.weights for part in parts if part.weights is not None]
    return DistilledDataset(
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat(labels),
        weights=torch.cat(weights) if len(weights) == len(parts) else None,
        normalization=data.normalization.to("cpu").state(),
        meta={
            **parts[0].meta,
            "num_classes": data.num_classes,
            "class_names": list(data.class_names),
        },
        config=parts[0].config,
    )


def of_step(cfg: DictConfig, seed: int, folder: Path) -> DictConfig:
    """Return the settings of one step, whose files lie in ``folder``."""
    return with_settings(cfg, {"seed": seed, "paths.run": str(folder)})
