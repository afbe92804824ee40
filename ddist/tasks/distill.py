"""task=distill: learn a distilled set, evaluate it beside random real images, say what came out."""

import logging
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback

from ddist.artifact.dataset import DistilledDataset
from ddist.callbacks.schedule import find_budget
from ddist.settings.auto import AUTO
from ddist.stages.stopping import keeping
from ddist.tasks.advice import advice
from ddist.tasks.beside import coreset
from ddist.tasks.build import MakeSource, find_device
from ddist.tasks.checks import check_precision, check_run, check_trained
from ddist.tasks.claim import claim, kept_in
from ddist.tasks.config import borrowed_ipcs, to_plain
from ddist.tasks.cost import Clock
from ddist.tasks.dashboards import finishing
from ddist.tasks.fitting import describe, fit, leave_if_interrupted
from ddist.tasks.jobs import is_job
from ddist.tasks.memory import check_memory
from ddist.tasks.plan import judge_of, with_budget
from ddist.tasks.processes import first_process
from ddist.tasks.results import evaluate, publish
from ddist.tasks.rows import KeptRows
from ddist.tasks.run import Run, build_run
from ddist.tasks.selection import judge, outer_loss, searched, select
from ddist.tasks.sweep import decisive, finished
from ddist.tasks.timing import since_start
from ddist.teachers.labels import with_labels

log = logging.getLogger(__name__)


def run(
    cfg: DictConfig, clock: Clock | None = None, *, baseline: bool, source: MakeSource | None = None
) -> float | None:
    """Distil and evaluate; ``source`` gives data that is in memory already, and ``clock`` counts
    the time of the command (None: since this process began). Return what a search may minimise,
    never the test figure: the negated validation accuracy, or the outer loss where no images are
    held out."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    cfg = with_budget(cfg)
    if clock is None:
        clock = Clock(0.0 if is_job() else since_start())  # a sweep's process began for other jobs
    check_run(cfg)
    folder = Path(cfg.paths.run)
    if (done := finished(cfg)) is not None:
        log.info("Finished before: %s", folder)
        return searched(done.get("selection"))
    with keeping(partial(kept_in, folder, cfg)):
        built = build_run(cfg, clock, baseline=baseline, source=source)
        return distil(built, clock, baseline=baseline)


def distil(built: Run, clock: Clock, *, baseline: bool) -> float | None:
    """Do the run, with settings that :func:`run` has checked; return what a search may minimise."""
    started = time.monotonic()
    cfg, data, method, folder = built.cfg, built.data, built.method, built.folder
    check_precision(cfg.trainer.precision, method, find_device(cfg.trainer.accelerator))
    check_memory(method, built.evaluator, data)
    check_trained(cfg, built.init)
    claim(folder, cfg)
    say_borrowed(cfg)
    with finishing(built.logger, cfg):
        # Before the steps, so that a budget knows how long it took; the first process evaluates.
        wanted = first_process() and built.evaluator.objective is None
        chosen = coreset(cfg, data, built.init) if wanted else None
        start = describe(cfg, method, 0) if is_judged(built) else None
        trainer = fit(cfg, method, folder, built.logger, make_callbacks(built, clock))
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
        judgement = None
        if start is not None:
            few = judge_of(cfg, data, built.init, built.teacher)
            judgement = judge(few, start, distilled, data)
            if judgement.worse:
                distilled, variants = replace(start, meta={**distilled.meta, "kept": "start"}), {}
        if cfg.teacher.store:
            distilled = labelled(built, distilled)
            variants = {name: labelled(built, variant) for name, variant in variants.items()}
        rows = KeptRows(built.evaluator, folder, decisive(to_plain(cfg)))
        results, confusion = evaluate(
            cfg,
            rows,
            distilled,
            data,
            names=built.names,
            distill_seconds=seconds,
            baseline=baseline,
            variants=variants,
            teacher=built.teacher,
            chosen=chosen,
        )
        selection = select(rows, distilled, data, judgement)
        if selection is not None:
            results["selection"] = selection
        if built.asked:
            results["provenance"]["asked"] = built.asked
        distilled.meta["results"] = results
        distilled.save(folder / "distilled")
        publish(results, confusion, distilled, folder, built.logger)
        rows.remove()
    each = distilled.factor**2
    for line in advice(
        results, built.evaluator, each * len(distilled.images), folder / "distilled"
    ):
        log.info(line)
    tiles = f", {each} to train on in each stored one" if each > 1 else ""
    log.info("The images%s: %s", tiles, folder / "distilled" / "grid.png")
    return searched(selection)


def labelled(built: Run, distilled: DistilledDataset) -> DistilledDataset:
    """Return the set with the teacher's labels."""
    teacher = built.cfg.teacher
    return with_labels(distilled, built.teacher(), teacher.temperature, teacher.top_k)


def is_judged(built: Run) -> bool:
    """Tell whether images were held out to compare the set with its start."""
    automatic = built.cfg.dataset.validation == AUTO
    return built.method.learns and automatic and built.data.validation is not None


def make_callbacks(built: Run, clock: Clock) -> list[Callback]:
    """Make the callbacks of a run: its budget counts what the command has taken so far."""
    callbacks = to_plain(built.cfg.callbacks)
    if callbacks.get("budget"):
        callbacks["budget"] |= {"before": clock.seconds(), "reserve": built.reserve}
    return [callback for callback in instantiate(callbacks).values() if callback]


def say_borrowed(cfg: DictConfig) -> None:
    """Log a line where the settings of another ipc stand in."""
    for ipc in sorted(borrowed_ipcs(cfg)):
        log.info("No published settings for ipc=%d: those of ipc=%d are taken.", cfg.ipc, ipc)
