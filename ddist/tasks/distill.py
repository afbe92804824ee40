"""task=distill: learn a distilled set, evaluate it beside random real images, say what came out."""

import json
import logging
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import ddist
from ddist.artifact import DistilledDataset
from ddist.callbacks import Interrupt, Paced
from ddist.callbacks.schedule import find_budget
from ddist.config import borrowed_ipcs, differences, learned_settings, to_plain
from ddist.errors import DdistError
from ddist.folder import write_file_whole
from ddist.methods import Method
from ddist.pace import current, part
from ddist.sweeping import is_job
from ddist.tasks.build import (
    build_data,
    build_evaluator,
    build_init,
    build_method,
    shared_teacher,
    uses_network,
)
from ddist.tasks.checks import (
    check_devices,
    check_groups_used,
    check_labels,
    check_network_used,
    check_precision,
    check_reference,
    check_teacher_used,
    check_trained,
)
from ddist.tasks.dashboards import finishing
from ddist.tasks.evaluate import device
from ddist.tasks.memory import check_memory
from ddist.tasks.names import chosen_names, option_of, without_network
from ddist.tasks.results import evaluate, publish
from ddist.tasks.selection import outer_loss, searched, select
from ddist.tasks.sweep import finished
from ddist.teachers.labels import check_stored, with_labels

log = logging.getLogger(__name__)


def run(cfg: DictConfig, *, baseline: bool) -> float | None:
    """One run, as docs say it; returns what a search may minimise: the negated validation accuracy,
    or the outer loss where nothing is held out. Never the test figure."""
    check_reference(cfg)
    check_devices(cfg)
    check_groups_used(cfg.method, cfg.evaluation)
    check_teacher_used(cfg, "teacher" in cfg.method or cfg.teacher.store)
    check_labels(cfg)
    with_network = uses_network(cfg.method) or uses_network(cfg.evaluation)
    check_network_used(cfg, with_network)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    folder = Path(cfg.paths.run)
    if (done := finished(cfg)) is not None:
        log.info("Finished before: %s", folder)
        return searched(done.get("selection"))
    started = time.monotonic()
    with part("data"):
        data = build_data(cfg, cfg.method.get("batch_real"), cfg.method.get("real_per_class"))
    if "teacher" in cfg.method and not get_object(cfg.method._target_).learns:
        data.to(device(cfg.trainer.accelerator))  # no fitting, which would move it
    init = build_init(cfg, data)
    teacher = shared_teacher(cfg, data)
    evaluator = build_evaluator(cfg, chosen_names()["network"], data, init, teacher)
    if cfg.teacher.store:
        teacher()  # which says before any work if its classes are others
        factor = cfg.synthetic.factor
        check_stored(cfg.teacher.temperature, cfg.teacher.top_k, data.num_classes, factor)
    with part("preparing"):
        method = build_method(cfg, data, init, teacher)
    check_precision(cfg.trainer.precision, method)
    check_memory(method, evaluator, data)
    check_trained(cfg, init)
    claim(folder, cfg)
    say_borrowed(cfg)
    with finishing(instantiate(cfg.logger), cfg) as logger:
        with part("distilling"):
            trainer = fit(cfg, method, folder, logger)
        if not trainer.is_global_zero:
            return None
        distilled = describe(cfg, method, trainer.global_step)
        if (loss := outer_loss(trainer, folder)) is not None:
            distilled.meta["outer_loss"] = loss
        distilled.save(folder / "distilled")
        leave_if_interrupted(trainer, folder)

        budget = find_budget(trainer)  # knows the time of all resumptions
        seconds = budget.spent if budget else time.monotonic() - started
        variants = {
            name: replace(distilled, **tensors) for name, tensors in method.variants().items()
        }
        if cfg.teacher.store:
            options = teacher(), cfg.teacher.temperature, cfg.teacher.top_k
            distilled = with_labels(distilled, *options)
            variants = {name: with_labels(v, *options) for name, v in variants.items()}
        names = chosen_names() if with_network else without_network(chosen_names())
        with part("evaluating"):
            results, confusion = evaluate(
                cfg, evaluator, distilled, data, names, seconds, baseline, variants, teacher
            )
            selection = select(evaluator, distilled, data)
        if selection is not None:
            results["selection"] = selection
        distilled.meta["results"] = results
        distilled.save(folder / "distilled")
        publish(results, confusion, distilled, folder, logger)
    log.info("The images: %s", folder / "distilled" / "grid.png")
    return searched(selection)


def claim(folder: Path, cfg: DictConfig) -> None:
    """Note in the run's folder which settings it belongs to. What a run of other settings has left
    there is refused with ``cfg.resume``, and no longer resumed from without."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return
    settings = learned_settings(cfg)
    setting = "hydra.sweep.dir" if is_job() else "hydra.run.dir"
    note, checkpoint = folder / "settings.json", folder / "checkpoints" / "last.ckpt"
    left = [each for each in (checkpoint, folder / "distilled") if each.exists()]
    if not cfg.resume:
        checkpoint.unlink(missing_ok=True)
        (folder / "results.json").unlink(missing_ok=True)
    elif left and not note.exists():
        raise DdistError(f"{folder} has no note of its settings: choose another {setting}.")
    elif left:
        changed = differences(json.loads(note.read_text()), settings)
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise DdistError(
                f"{folder} holds a run of another configuration ({'; '.join(changed[:3])}{more}): "
                f"choose another {setting}, or resume=false to start over in this one."
            )
    write_file_whole(note, json.dumps(settings, indent=2).encode())


def say_borrowed(cfg: DictConfig) -> None:
    """One line when the settings of another ipc stand in."""
    for ipc in sorted(borrowed_ipcs(cfg)):
        log.info("No published settings for ipc=%d: those of ipc=%d are taken.", cfg.ipc, ipc)


def fit(cfg: DictConfig, method: Method, folder: Path, logger: Logger) -> pytorch_lightning.Trainer:
    """Distil, going on from the folder's checkpoint where there is one."""
    if not method.learns:
        return make_trainer(cfg, max_steps=0, logger=False, callbacks=[])
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resume = str(checkpoint) if cfg.resume and checkpoint.exists() else None
    if resume:
        log.info("Going on from %s.", checkpoint)
    callbacks = [each for each in instantiate(cfg.callbacks).values() if each]
    if current() is not None:
        callbacks.append(Paced())
    trainer = make_trainer(cfg, logger=logger, callbacks=callbacks)
    try:
        with warnings.catch_warnings():
            # One endless "epoch" of outer steps: advice on workers and logging intervals is not
            # for us.
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer.fit(method, datamodule=method.data, ckpt_path=resume, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # a second Ctrl-C, which Lightning turns into exit(1)
            raise KeyboardInterrupt from None
        raise
    return trainer


def make_trainer(cfg: DictConfig, **parts: Any) -> pytorch_lightning.Trainer:
    """The Trainer of ``cfg``. Raises DdistError where Lightning will not have it."""
    try:
        trainer: pytorch_lightning.Trainer = instantiate(cfg.trainer)(**parts)
    except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
        if "unexpected keyword" in str(error):
            raise  # +trainer.nothing=1: an option that there is not
        raise DdistError(
            f"This machine cannot run the trainer as asked: {str(error).rstrip('.! ')}; set "
            "trainer.accelerator, trainer.devices, trainer.strategy and trainer.precision to what "
            "it has, or leave them out."
        ) from error
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
        "factor": method.synthetic.factor,
        "uses_network": method.uses_network,
        "seed": cfg.seed,
        "steps": steps,
        "protocol": cfg.evaluation.name,
        "versions": {"ddist": ddist.__version__, "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    wishes = {k: v for k, v in to_plain(cfg.objective).items() if not k.startswith("_")}
    if wishes and "objective" in cfg.method:
        meta["objective"] = {"name": option_of("objective"), **wishes}
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
    """theta_0 where p(theta_0) is a single point, None where it is not or there is no network."""
    if not (method.init.single and method.uses_network):
        return None
    return {name: w[0].cpu() for name, w in method.init.held_out(method.network, 1).items()}
