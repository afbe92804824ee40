"""The automatic settings of a run (ddist/settings/auto.py), filled in once its data is there."""

import logging
from collections.abc import Sequence

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from ddist.data import RealData
from ddist.settings.auto import AUTO, RULES, Facts
from ddist.tasks.config import to_plain, with_settings

BF16 = ("avx512_bf16", "amx_tile")
"""What processors call their instructions for bfloat16."""

log = logging.getLogger(__name__)


def adapted(cfg: DictConfig, data: RealData) -> DictConfig:
    """Return ``cfg`` with a value for each setting that says ``auto``, and log those that are not
    empty."""
    facts = facts_of(cfg, data)
    chosen = {
        name: rule(facts) for name, rule in RULES.items() if OmegaConf.select(cfg, name) == AUTO
    }
    if not chosen:
        return cfg
    said = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    if said:
        log.info("By the data and this machine: %s.", " ".join(said))
    return with_settings(cfg, chosen)


def adapted_network(network: DictConfig, cfg: DictConfig, data: RealData) -> DictConfig:
    """Return the settings of a network that is not the run's own, likewise."""
    settings, facts = to_plain(network), facts_of(cfg, data)
    for name, value in settings.items():
        if value == AUTO and f"network.{name}" in RULES:
            settings[name] = RULES[f"network.{name}"](facts)
    return DictConfig(settings)


def facts_of(cfg: DictConfig, data: RealData) -> Facts:
    """Return what the automatic settings of ``cfg`` follow."""
    accelerator = cfg.trainer.accelerator != "cpu" and torch.accelerator.is_available()
    method = get_object(cfg.method._target_) if cfg.method else None
    return Facts(
        side=min(data.image_shape[1:]),
        num_classes=data.num_classes,
        num_images=len(data.train),
        fewest=min(data.train.counts),
        ipc=cfg.ipc,
        accelerator=accelerator,
        own=is_own(str(cfg.dataset.source._target_)),
        timed=cfg.budget not in (None, AUTO),
        recipe=cfg.recipe is not None,
        learns=method is not None and method.learns,
        least_depth=method.least_depth if method is not None else 1,
        tiles=method.tiles if method is not None and can_be_cut(data.image_shape) else None,
        chooses=get_object(cfg.evaluation._target_).num_beside > 0,
        bf16=has_bf16(accelerator),
    )


def can_be_cut(shape: Sequence[int]) -> bool:
    """Tell whether images of that shape, [C, H, W], are four of half the sides."""
    return shape[1] % 2 == shape[2] % 2 == 0


def is_own(source: str) -> bool:
    """Tell whether a ``source`` reads somebody's own data, and not one of the field's datasets."""
    package, _, function = source.rpartition(".")
    return package != "ddist.data.sources" or function in ("folder", "arrays")


def has_bf16(accelerator: bool) -> bool:
    """Tell whether the device has instructions for bfloat16: others compute in it too, slowly."""
    if accelerator:
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(False)
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in BF16)
    return any(ask is not None and ask() for ask in asked)
