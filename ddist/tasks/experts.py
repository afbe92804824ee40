"""task=experts: train ahead the experts that a method would train when it is run."""

import logging
import time

import torch
from omegaconf import DictConfig

from ddist.formatting import format_duration, size
from ddist.methods.mtt import last_epoch
from ddist.settings.ranges import PositiveInt
from ddist.tasks.build import build_trajectories, find_device, read_data
from ddist.tasks.networks import build_network
from ddist.tasks.plan import with_usual_budget

log = logging.getLogger(__name__)


def run(cfg: DictConfig, *, epochs: PositiveInt) -> None:
    """Train the experts that are missing, and log where they all are; for ``epochs``, where neither
    ``trajectories.epochs`` nor the method says how long."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    started = time.monotonic()
    cfg, data = read_data(with_usual_budget(cfg))
    data.to(find_device(cfg.trainer.accelerator))
    network = build_network(cfg.network, data).to(data.device)
    trajectories = build_trajectories(cfg, data)
    trajectories.prepare(network, cfg.trajectories.get("epochs") or horizon(cfg.method) or epochs)
    folder = trajectories.folder(network)
    files = [path.stat().st_size for path in folder.glob("*/*.safetensors")]
    log.info(
        "%s of experts in %s files: %s (%s).",
        size(sum(files)),
        f"{len(files):,}",
        folder,
        format_duration(time.monotonic() - started),
    )


def horizon(method: DictConfig) -> int | None:
    """Return the last epoch of an expert that the method uses; None for a method that uses none."""
    if "max_start_epoch" not in method:
        return None
    return last_epoch(method.max_start_epoch, method.expert_epochs)
