"""results.json: the contract of a run's figures."""

import json
import logging
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import rich
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

import ddist
from ddist.artifact.dataset import DistilledDataset
from ddist.compare.published import cited, full_data
from ddist.compare.settings import Setup
from ddist.data import RealData
from ddist.evaluation import Evaluator, Row
from ddist.evaluation.evaluator import summarise
from ddist.evaluation.full import train_on_all
from ddist.init.imagenet import SOURCE as IMAGENET
from ddist.report.course import course_picture, course_table, has_course
from ddist.report.table import results_table
from ddist.storage.atomic import write_file_whole
from ddist.storage.signature import signature
from ddist.tasks.beside import Chosen, all_images, named_rows, real_sets
from ddist.tasks.config import learned_settings, to_plain
from ddist.tasks.dashboards import log_results
from ddist.tasks.origin import command, commit, machine
from ddist.tasks.page import write_confusion, write_page
from ddist.tasks.rows import KeptRows
from ddist.tasks.teachers import FindTeacher
from ddist.tasks.usual import usual_networks
from ddist.teachers import with_labels

log = logging.getLogger(__name__)


def evaluate(
    cfg: DictConfig,
    kept: KeptRows,
    distilled: DistilledDataset,
    data: RealData,
    *,
    names: dict[str, str],
    distill_seconds: float | None,
    baseline: bool,
    variants: Mapping[str, DistilledDataset],
    teacher: FindTeacher,
    chosen: Chosen | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Evaluate the set, its ``variants`` by their names and, with ``baseline``, what it is shown
    beside (see :func:`ddist.tasks.beside.real_sets`), ``chosen`` real images among it.
    Return the content of results.json, and the confusion of classes [C, C] where it was counted, by
    row: ``evaluation/0``, ``baselines/random``.

    ``names`` are those of the method, dataset, network and init. ``distill_seconds`` is None where
    nothing was distilled just now; ``teacher`` is asked for only where labels were stored.
    """
    started, evaluator = time.monotonic(), kept.evaluator
    log.info("Evaluating under the protocol %s.", evaluator.protocol.name)
    rows = kept.run("the set", distilled, data)
    confusion = {f"evaluation/{i}": row.confusion for i, row in enumerate(rows)}
    starts = cfg.reference.starts
    real = real_sets(cfg.seed, distilled, data, evaluator, chosen, baseline=baseline, starts=starts)
    if distilled.label_temperature is not None:  # the same teacher's labels for all
        options = distilled.label_temperature, distilled.meta.get("label_top_k")
        real = {name: with_labels(images, teacher(), *options) for name, images in real.items()}
    others = {**variants, **real}
    baselines: dict[str, Any] = {}
    if adapts(cfg, data):
        before = named_rows("no_adaptation", evaluator.before(data))
        baselines |= {key: row.to_dict() for key, row in before.items()}
    for name, other in others.items():
        for key, row in named_rows(name, kept.run(name, other, data)).items():
            baselines[key], confusion[f"baselines/{key}"] = (
                row.to_dict(),
                row.confusion,
            )
    if baseline:
        baselines |= all_images(kept, data)
    if cfg.reference.measure:
        measure = partial(measured_full, cfg, evaluator, data)
        baselines["full_measured"] = kept.once("full_measured", measure).to_dict()
    baselines |= published_full(to_plain(cfg), names, [row.network for row in rows])
    results = contents(cfg, distilled, names, evaluator.protocol.name, distill_seconds)
    results["evaluation"] = [row.to_dict() for row in rows]
    results["baselines"] = baselines
    results["cost"]["evaluate_seconds"] = time.monotonic() - started + kept.seconds
    if lowered := distilled.meta.get("rates_lowered_at"):
        results["provenance"]["rates_lowered_at"] = lowered
    if data.facts:  # what reading the data decided by itself
        results["data"] = dict(data.facts)
    if "figures" in distilled.meta:  # what else its method knew of it
        results["figures"] = distilled.meta["figures"]
    return results, {name: key for name, key in confusion.items() if key is not None}


def contents(
    cfg: DictConfig,
    distilled: DistilledDataset,
    names: dict[str, str],
    protocol: str,
    distill_seconds: float | None,
) -> dict[str, Any]:
    """Return results.json's dict, whose rows and time of evaluating are to be filled in."""
    steps = distilled.meta.get("steps")
    return {
        "schema": 1,
        **names,
        "ipc": distilled.meta["ipc"],
        "steps": steps,
        "seed": cfg.seed,
        "protocol": protocol,
        "evaluation": [],
        "baselines": {},
        "cost": {
            "distill_seconds": distill_seconds,
            "evaluate_seconds": None,
            "peak_memory_bytes": peak_memory_bytes(),
            "steps_per_second": steps / distill_seconds if steps and distill_seconds else None,
            "artifact_bytes": distilled.num_bytes,
        },
        "provenance": {
            "ddist": ddist.__version__,
            "torch": torch.__version__,
            "signature": signature(learned_settings(cfg)),
            "command": command(),
            "commit": commit(),
            "machine": machine(),
            "config": to_plain(cfg),
        },
    }


def adapts(cfg: DictConfig, data: RealData) -> bool:
    """Tell whether networks start as trained ones of another dataset, or of chosen classes."""
    if cfg.init.get("classes") is not None:
        return True
    return cfg.init.get("source") not in (None, data.name, IMAGENET)


def measured_full(cfg: DictConfig, evaluator: Evaluator, data: RealData) -> Row:
    """Train networks on all images, as ``cfg.reference.training`` says, and return their row."""
    training = cfg.reference.training
    log.info("Training on all images, %d epochs.", training.epochs)
    name, network = next(iter(evaluator.networks.items()))
    accuracies = train_on_all(data, network.to(data.device), evaluator.init, cfg.seed, **training)
    protocol = f"measured, {training.epochs} epochs of Adam"
    return summarise(accuracies, protocol, name, {})


def published_full(
    config: dict[str, Any], names: Mapping[str, str], networks: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the rows of training on the whole dataset, ``full`` for the first of ``networks`` and
    ``full:network`` for further ones, where figures are published for that very network and those
    images. They are never measured here, so their protocol is their own."""
    rows = {}
    for i, network in enumerate(networks):
        setup = Setup(dataset=names["dataset"], init=names["init"], network=network, config=config)
        published = full_data(setup, usual_networks())
        if published is not None:
            rows[f"full:{network}" if i else "full"] = {
                "protocol": f"published, {cited(published)}",
                "network": network,
                "accuracy_mean": published.mean,
                "accuracy_std": None,
                "accuracy_ci95": None,
                "num_networks": 1,
            }
    return rows


def peak_memory_bytes() -> int:
    """Return the most memory this process has held: the GPU's where one was used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss starts at the parent's
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def publish(
    results: dict[str, Any],
    confusion: Mapping[str, Tensor],
    distilled: DistilledDataset,
    folder: Path,
    logger: Logger,
) -> None:
    """Write ``folder/results.json``, whole or not at all, print the table, and write the page."""
    write_confusion(folder, confusion)
    write_file_whole(folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    log_results(logger, results, distilled)
    rich.get_console().print(results_table(results))
    if has_course(results):
        write_file_whole(folder / "course.png", course_picture(results))
        rich.get_console().print(course_table(results))
        log.info("The curves: %s", folder / "course.png")
    write_page(folder, results, distilled)
