"""task=distill: learn a distilled set, evaluate it beside random real images, say what came out."""

import json
import logging
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn

import ddist
from ddist.artifact import DistilledDataset
from ddist.callbacks import Interrupt
from ddist.config import borrowed_ipcs, differences, learned_settings, signature, to_plain
from ddist.errors import DdistError
from ddist.folder import write_file_whole
from ddist.init import Fixed, InitialWeights
from ddist.methods import Method
from ddist.tasks.build import build_data, build_evaluator, build_init, build_method
from ddist.tasks.names import chosen_names
from ddist.tasks.results import peak_memory_bytes, provenance, publish, with_baseline

log = logging.getLogger(__name__)


def run(cfg: DictConfig, *, baseline: bool) -> float | None:
    """One run, as docs say it; returns what a search may look at: the negated validation accuracy,
    or the outer loss where nothing is held out. Never the test figure."""
    refuse_sweep_over_devices(cfg)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    folder = Path(cfg.paths.run)
    claim(folder, cfg)
    data = build_data(cfg, cfg.method.get("batch_real"))
    init = build_init(cfg, data)
    method = build_method(cfg, data, init)
    say_borrowed(cfg)
    started = time.monotonic()
    trainer = fit(cfg, method, folder)
    if not trainer.is_global_zero:
        return None
    distill_seconds = time.monotonic() - started
    distilled = describe(cfg, method, trainer.global_step)
    distilled.save(folder / "distilled")
    leave_if_interrupted(trainer, folder)

    evaluator = build_evaluator(cfg, chosen_names()["network"], data, init)
    rows, baselines, evaluate_seconds = with_baseline(
        evaluator, distilled, data, cfg.seed, baseline
    )
    results = {
        "schema": 1,
        **chosen_names(),
        "ipc": cfg.ipc,
        "steps": trainer.global_step,
        "seed": cfg.seed,
        "protocol": evaluator.protocol.name,
        "evaluation": rows,
        "baselines": baselines,
        "cost": {
            "distill_seconds": distill_seconds,
            "evaluate_seconds": evaluate_seconds,
            "peak_memory_bytes": peak_memory_bytes(),
            "steps_per_second": trainer.global_step / distill_seconds,
            "artifact_bytes": distilled.num_bytes,
        },
        "provenance": provenance(signature(learned_settings(cfg)), to_plain(cfg)),
    }
    distilled.meta["results"] = results
    distilled.save(folder / "distilled")
    publish(results, folder)
    log.info("The images: %s", folder / "distilled" / "grid.png")
    if data.validation is not None:
        return -evaluator.run(distilled, data, data.validation)[0].accuracy_mean
    loss = trainer.callback_metrics.get("distill/loss")
    return None if loss is None else float(loss)


def refuse_sweep_over_devices(cfg: DictConfig) -> None:
    """Each process of a distributed run would repeat the whole sweep (Lightning#15737)."""
    devices = cfg.trainer.devices
    single = devices == 1 or (isinstance(devices, str) and devices in ("1", "auto"))
    if HydraConfig.get().mode == RunMode.MULTIRUN and not (single and cfg.trainer.num_nodes == 1):
        raise DdistError(
            f"-m cannot sweep runs of several devices (trainer.devices={devices}): give each job "
            "one device (trainer.devices=1), or start each run by itself (torchrun, SLURM)."
        )


def claim(folder: Path, cfg: DictConfig) -> None:
    """Note in the run's folder which settings it belongs to; refuse a folder of other settings."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return
    settings = learned_settings(cfg)
    note = folder / "settings.json"
    if note.exists() and cfg.resume:
        earlier = json.loads(note.read_text())
        changed = differences(earlier, settings)
        if changed:
            raise DdistError(
                f"{folder} holds a run of another configuration ({'; '.join(changed[:3])}): choose "
                "another hydra.run.dir, or resume=false to start over in this one."
            )
    write_file_whole(note, json.dumps(settings, indent=2).encode())


def say_borrowed(cfg: DictConfig) -> None:
    """One line when the settings of another ipc stand in."""
    for ipc in sorted(borrowed_ipcs(cfg)):
        log.info("No published settings for ipc=%d: those of ipc=%d are taken.", cfg.ipc, ipc)


def fit(cfg: DictConfig, method: Method, folder: Path) -> pytorch_lightning.Trainer:
    """Distil, going on from the folder's checkpoint where there is one."""
    if not method.learns:
        return instantiate(cfg.trainer)(max_steps=0, logger=False, callbacks=[])
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resume = str(checkpoint) if cfg.resume and checkpoint.exists() else None
    if resume:
        log.info("Going on from %s.", checkpoint)
    try:
        trainer: pytorch_lightning.Trainer = instantiate(cfg.trainer)(
            logger=instantiate(cfg.logger),
            callbacks=[each for each in instantiate(cfg.callbacks).values() if each],
        )
    except MisconfigurationException as error:
        raise DdistError(f"This machine cannot run the trainer as asked: {error}") from error
    with warnings.catch_warnings():
        # One endless "epoch" of outer steps: advice on workers and logging intervals is not for us.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(method, datamodule=method.data, ckpt_path=resume, weights_only=True)
    return trainer


def leave_if_interrupted(trainer: pytorch_lightning.Trainer, folder: Path) -> None:
    """After Ctrl-C the artifact so far is saved; the rest is left to a resumed run."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Interrupt) and callback.received is not None:
            log.warning(
                "Stopped at step %d: the images so far are in %s; the same command with "
                "hydra.run.dir=%s goes on from there.",
                trainer.global_step,
                folder / "distilled",
                folder,
            )
            raise SystemExit(128 + callback.received)


def describe(cfg: DictConfig, method: Method, steps: int) -> DistilledDataset:
    """The product of the run, with what is needed to train on it and to repeat it."""
    data = method.data
    meta: dict[str, Any] = {
        **chosen_names(),
        "class_names": list(data.class_names),
        "num_classes": data.num_classes,
        "image_shape": list(data.image_shape),
        "ipc": cfg.ipc,
        "seed": cfg.seed,
        "steps": steps,
        "protocol": cfg.evaluation.name,
        "versions": {"ddist": ddist.__version__, "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return DistilledDataset(
        **method.tensors(),
        initial_weights=single_start(method.init, method.network),
        normalization={
            k: v.cpu() if isinstance(v, torch.Tensor) else v
            for k, v in data.normalization.state().items()
        },
        meta=meta,
        config=OmegaConf.to_yaml(cfg, resolve=True),
    )


def single_start(init: InitialWeights, network: nn.Module) -> dict[str, torch.Tensor] | None:
    """theta_0 where p(theta_0) is a single point, None where it is not."""
    if not isinstance(init, Fixed):
        return None
    return {name: w[0].cpu() for name, w in init.held_out(network, 1).items()}
