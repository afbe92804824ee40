"""task=distill: learn a distilled set, evaluate it beside random real images, say what came out."""

import logging
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import ddist
from ddist.artifact.dataset import DistilledDataset
from ddist.callbacks import Interrupt, Paced, with_metrics_file
from ddist.callbacks.schedule import find_budget
from ddist.errors import DdistError
from ddist.methods import Method
from ddist.pace import current, part
from ddist.stages.stopping import keeping
from ddist.tasks.build import (
    build_data,
    build_evaluator,
    build_init,
    build_method,
    shared_teacher,
)
from ddist.tasks.checks import (
    check_devices,
    check_groups_used,
    check_labels,
    check_network_used,
    check_precision,
    check_reference,
    check_start,
    check_teacher_used,
    check_trained,
)
from ddist.tasks.claim import CHECKPOINT, claim, kept_in, where
from ddist.tasks.config import borrowed_ipcs, to_plain
from ddist.tasks.dashboards import finishing
from ddist.tasks.evaluate import device
from ddist.tasks.memory import check_memory
from ddist.tasks.names import chosen_names, option_of, without_network
from ddist.tasks.networks import uses_network
from ddist.tasks.results import evaluate, publish
from ddist.tasks.rows import KeptRows
from ddist.tasks.selection import outer_loss, searched, select
from ddist.tasks.sweep import decisive, finished
from ddist.teachers.labels import check_stored, with_labels

log = logging.getLogger(__name__)


def run(cfg: DictConfig, *, baseline: bool) -> float | None:
    """One run, as docs say it; returns what a search may minimise: the negated validation accuracy,
    or the outer loss where nothing is held out. Never the test figure."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    callbacks = [each for each in instantiate(cfg.callbacks).values() if each]  # a budget begins
    with_network = check(cfg)
    folder = Path(cfg.paths.run)
    if (done := finished(cfg)) is not None:
        log.info("Finished before: %s", folder)
        return searched(done.get("selection"))
    with keeping(partial(kept_in, folder, cfg)):
        return distil(cfg, folder, callbacks, with_network, baseline)


def check(cfg: DictConfig) -> bool:
    """Whether a network takes part. Raises a DdistError for settings that do not fit each other."""
    check_reference(cfg)
    check_devices(cfg)
    check_groups_used(cfg.method, cfg.evaluation)
    check_teacher_used(cfg, "teacher" in cfg.method or cfg.teacher.store)
    check_labels(cfg)
    check_start(cfg)
    with_network = uses_network(cfg.method) or uses_network(cfg.evaluation)
    check_network_used(cfg, with_network)
    return with_network


def distil(
    cfg: DictConfig, folder: Path, callbacks: list[Callback], with_network: bool, baseline: bool
) -> float | None:
    """What :func:`run` does with settings that are in order, in ``folder``."""
    started = time.monotonic()
    with part("data"):
        data = build_data(cfg, cfg.method.get("batch_real"), cfg.method.get("real_per_class"))
    if not get_object(cfg.method._target_).learns:
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
            trainer = fit(cfg, method, folder, logger, callbacks)
        if not trainer.is_global_zero:
            return None
        distilled = describe(cfg, method, trainer.global_step)
        if (loss := outer_loss(trainer, folder)) is not None:
            distilled.meta["outer_loss"] = loss
        distilled.save(folder / "distilled")
        leave_if_interrupted(trainer, folder)

        budget = find_budget(trainer)  # knows the time of all resumptions
        seconds = budget.stepped if budget else time.monotonic() - started
        variants = {
            name: replace(distilled, **tensors) for name, tensors in method.variants().items()
        }
        if cfg.teacher.store:
            options = teacher(), cfg.teacher.temperature, cfg.teacher.top_k
            distilled = with_labels(distilled, *options)
            variants = {name: with_labels(v, *options) for name, v in variants.items()}
        names = chosen_names() if with_network else without_network(chosen_names())
        rows = KeptRows(evaluator, folder, decisive(to_plain(cfg)))
        with part("evaluating"):
            results, confusion = evaluate(
                cfg, rows, distilled, data, names, seconds, baseline, variants, teacher
            )
            selection = select(rows, distilled, data)
        if selection is not None:
            results["selection"] = selection
        distilled.meta["results"] = results
        distilled.save(folder / "distilled")
        publish(results, confusion, distilled, folder, logger)
        rows.remove()
    log.info("The images: %s", folder / "distilled" / "grid.png")
    return searched(selection)


def say_borrowed(cfg: DictConfig) -> None:
    """One line when the settings of another ipc stand in."""
    for ipc in sorted(borrowed_ipcs(cfg)):
        log.info("No published settings for ipc=%d: those of ipc=%d are taken.", cfg.ipc, ipc)


def fit(
    cfg: DictConfig, method: Method, folder: Path, logger: Logger, callbacks: list[Callback]
) -> pytorch_lightning.Trainer:
    """Distil, going on from the folder's checkpoint where there is one."""
    if not method.learns:
        return make_trainer(cfg, max_steps=0, logger=False, callbacks=[])
    checkpoint = folder / CHECKPOINT
    resume = str(checkpoint) if cfg.resume and checkpoint.exists() else None
    if resume:
        log.info("Going on from %s.", checkpoint)
    if current() is not None:
        callbacks = [*callbacks, Paced()]
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
                "Stopped at step %d: the images so far are in %s; the same command with %s goes on "
                "from there.",
                trainer.global_step,
                folder / "distilled",
                where(folder),
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
    if len(set(method.images_per_class)) > 1:
        meta["images_per_class"] = list(method.images_per_class)
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
