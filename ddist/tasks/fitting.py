"""The outer steps of a run, and the set that they leave."""

import logging
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import ddist
from ddist.artifact.dataset import DistilledDataset
from ddist.callbacks import Interrupt, with_metrics_file
from ddist.callbacks.schedule import find_callback
from ddist.errors import DdistError
from ddist.methods import Method
from ddist.tasks.claim import CHECKPOINT, where
from ddist.tasks.config import to_plain
from ddist.tasks.names import chosen_names, option_of
from ddist.tasks.targets import make

log = logging.getLogger(__name__)


def fit(
    cfg: DictConfig, method: Method, folder: Path, logger: Logger, callbacks: list[Callback]
) -> pytorch_lightning.Trainer:
    """Distil, going on from the folder's checkpoint where there is one, and return the trainer."""
    if not method.learns:
        return make_trainer(cfg, max_steps=0, logger=False, callbacks=[])
    checkpoint = folder / CHECKPOINT
    resume = str(checkpoint) if cfg.resume and checkpoint.exists() else None
    if resume:
        log.info("Going on from %s.", checkpoint)
    loggers = with_metrics_file(logger, folder / "metrics.csv")
    trainer = make_trainer(cfg, logger=loggers, callbacks=callbacks)
    try:
        with warnings.catch_warnings():
            # One endless "epoch" of outer steps: advice on workers and logging intervals is not
            # for us.
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer.fit(method, datamodule=method.data, ckpt_path=resume, weights_only=True)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):  # Lightning makes exit(1) of it
            raise leaving.__context__ from None
        raise
    return trainer


def make_trainer(cfg: DictConfig, **parts: Any) -> pytorch_lightning.Trainer:
    """Return the Trainer of ``cfg``. Raise a DdistError where Lightning refuses the settings."""
    try:
        trainer: pytorch_lightning.Trainer = make(cfg.trainer, **parts)
    except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
        raise DdistError(
            f"This machine cannot run the trainer as asked: {str(error).rstrip('.! ')}; set "
            "trainer.accelerator, trainer.devices, trainer.strategy and trainer.precision to what "
            "it has, or leave them out."
        ) from error
    return trainer


def describe(cfg: DictConfig, method: Method, steps: int) -> DistilledDataset:
    """Return the run's distilled set, with what is needed to train on it and to repeat the run."""
    data = method.data
    meta: dict[str, Any] = {
        **chosen_names(),
        "class_names": list(data.class_names),
        "num_classes": data.num_classes,
        "image_shape": list(data.image_shape),
        "ipc": cfg.ipc,
        "factor": method.synthetic.factor,
        "stored_each": method.synthetic.stored_each,
        "uses_network": method.uses_network,
        "seed": cfg.seed,
        "steps": steps,
        "protocol": cfg.evaluation.name,
        "versions": {"ddist": ddist.__version__, "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if len(set(method.images_per_class)) > 1:
        meta["images_per_class"] = list(method.images_per_class)
    wishes = {k: v for k, v in to_plain(cfg.objective).items() if not k.startswith("_")}
    if wishes and "objective" in cfg.method:
        meta["objective"] = {"name": option_of("objective"), **wishes}
    if method.recovery.steps:
        meta["rates_lowered_at"] = method.recovery.steps
    if figures := method.figures():
        meta["figures"] = figures
    return DistilledDataset(
        **method.tensors(),
        initial_weights=single_start(method),
        normalization=data.normalization.to("cpu").state(),
        meta=meta,
        config=OmegaConf.to_yaml(cfg, resolve=True),
    )


def single_start(method: Method) -> dict[str, torch.Tensor] | None:
    """Return theta_0 where p(theta_0) is a single point; otherwise, or without a network, None."""
    if not (method.init.single and method.uses_network):
        return None
    return {name: w[0].cpu() for name, w in method.init.held_out(method.network, 1).items()}


def leave_if_interrupted(trainer: pytorch_lightning.Trainer, folder: Path) -> None:
    """Exit if a signal stopped the steps: the artifact so far is saved, a resumed run goes on."""
    interrupt = find_callback(trainer, Interrupt)
    if interrupt is not None and interrupt.received is not None:
        log.warning(
            "Stopped at step %d: the images so far are in %s; the same command with %s goes on "
            "from there.",
            trainer.global_step,
            folder / "distilled",
            where(folder),
        )
        raise SystemExit(128 + interrupt.received)
