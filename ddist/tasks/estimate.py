"""task=estimate: what a run will take on this machine, from small trials of each of its parts."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rich
from omegaconf import DictConfig
from rich.table import Table

from ddist.artifact.dataset import DistilledDataset
from ddist.callbacks import MetricsCSV
from ddist.formatting import format_duration, parse_duration, size
from ddist.settings.ranges import Positive
from ddist.storage.atomic import write_file_whole
from ddist.tasks.build import build_evaluator, build_init, find_device, read_data
from ddist.tasks.checks import check_run
from ddist.tasks.fitting import describe
from ddist.tasks.memory import check_memory
from ddist.tasks.missing import missing_trainings
from ddist.tasks.names import chosen_names
from ddist.tasks.plan import with_budget
from ddist.tasks.results import peak_memory_bytes, publish
from ddist.tasks.teachers import shared_teacher
from ddist.tasks.timing import now, seconds_of, since_start
from ddist.tasks.trials import Results, begin, changed, distilling, evaluating, preparing
from ddist.teachers.labels import with_labels

log = logging.getLogger(__name__)

PARTS = {  # in the table's order
    "starting": "starting",
    "data": "reading the data",
    "pool": "training a pool of networks",
    "experts": "training experts",
    "teachers": "training a teacher",
    "autoencoder": "training an autoencoder",
    "features": "embedding real images",
    "reference": "training on all images",
    "preparing": "preparing the images",
    "distilling": "distilling",
    "evaluating": "evaluating",
    "rest": "all else",
}


def run(cfg: DictConfig, *, baseline: bool, seconds: Positive) -> None:
    """Try small parts of the run of ``cfg`` in a folder that is removed, each for ``seconds`` at
    least; print the table and write ``estimate.json``."""
    before = since_start()
    cfg = with_budget(cfg)
    log.info("Trying small parts of the run, to see how long all of it takes.")
    with TemporaryDirectory(prefix="ddist-estimate-") as temporary, quietly():
        estimated = estimate(cfg, Path(temporary), baseline, seconds)
    taken = {"starting": before, **estimated["seconds"]}
    if cfg.budget is not None:
        taken["distilling"] = min(taken["distilling"], parse_duration(cfg.budget))
    estimated["seconds"] = {name: taken[name] for name in PARTS if name in taken}
    estimated["total_seconds"] = sum(taken.values())
    content = (json.dumps(estimated, indent=2) + "\n").encode()
    write_file_whole(Path(cfg.paths.run) / "estimate.json", content)
    rich.get_console().print(table(estimated))


def estimate(cfg: DictConfig, folder: Path, baseline: bool, seconds: float) -> dict[str, Any]:
    """Return the content of estimate.json but for the start and the total, from trials in
    ``folder``. They read what the cache has and add nothing to it."""
    cache, here = folder / "cache", folder / "run"
    lend(Path(str(cfg.paths.cache)).expanduser(), cache)
    cfg = changed(cfg, {"paths.run": str(here), "paths.cache": str(cache)})
    check_run(cfg)
    started = now()
    cfg, data = read_data(cfg)
    data.to(find_device(cfg.trainer.accelerator))
    taken, disk = {"data": now() - started}, written(cache)
    trial = begin(cfg, data, seconds)
    method = trial.method(trial.images)  # warms up, and trains briefly what it needs
    evaluator = build_evaluator(
        cfg, chosen_names()["network"], data, build_init(cfg, data), shared_teacher(cfg, data)
    )
    check_memory(method, evaluator, data)
    taken["preparing"] = preparing(trial)
    taken["distilling"], done = distilling(trial, method, here)
    for stage, needed, files in missing_trainings(cfg, data, method, evaluator, seconds):
        taken[stage] = taken.get(stage, 0.0) + needed
        disk[stage] = disk.get(stage, 0) + files * largest(cache / stage)
    if (latents := getattr(method, "latents", None)) is not None:
        disk["latents"] = 4 * latents.width * len(data.train)

    distilled = describe(cfg, method, done)
    if cfg.teacher.store:
        distilled = with_labels(
            distilled, trial.teacher(), cfg.teacher.temperature, cfg.teacher.top_k
        )
    variants = {name: replace(distilled, **variant) for name, variant in method.variants().items()}
    taken["evaluating"], results = evaluating(trial, evaluator, distilled, variants, baseline)
    taken["rest"] = seconds_of(lambda: leave(distilled, results, here))
    return {
        "schema": 1,
        "seconds": taken,
        "peak_memory_bytes": peak_memory_bytes(),
        "disk_bytes": {"run": run_bytes(cfg, here, done), "cache": disk},
        "artifact_bytes": results[0]["cost"]["artifact_bytes"],
        "checkpoint_bytes": sum(written(here / "checkpoints").values()),
    }


def leave(distilled: DistilledDataset, results: Results, folder: Path) -> None:
    """Write to ``folder`` what a run leaves there: the set, its ``results`` and the page."""
    distilled.save(folder / "distilled")
    distilled.meta["results"] = results[0]
    distilled.save(folder / "distilled")
    publish(*results, distilled, folder, MetricsCSV(folder / "metrics.csv"))


def run_bytes(cfg: DictConfig, folder: Path, done: int) -> int:
    """Return the bytes that the run's folder will have, from ``done`` outer steps in ``folder``:
    rows of metrics are to come, and pictures, which the page holds too, in base 64."""
    needed = sum(written(folder).values())
    if done == 0:
        return needed  # nothing is learned
    metrics = folder / "metrics.csv"
    if metrics.exists():
        needed += round(metrics.stat().st_size * max(0.0, cfg.steps / done - 1))
    wanted = cfg.callbacks.images.num_pictures if cfg.callbacks.get("images") else 0
    missing = min(wanted, cfg.steps) - len(list((folder / "images").glob("*.png")))
    picture = (folder / "distilled" / "grid.png").stat().st_size
    return needed + round(picture * (1 + 4 / 3) * max(0, missing))


def table(estimated: dict[str, Any]) -> Table:
    """Return a table of what estimate.json says, part by part."""
    shown = Table(title="What this run will take on this machine", title_style="bold")
    shown.add_column("part")
    for name in ("time", "memory", "disk"):
        shown.add_column(name, justify="right")
    disk = estimated["disk_bytes"]
    of_part = {**disk["cache"], "distilling": disk["run"]}
    for name in [
        *estimated["seconds"],
        *(cached for cached in disk["cache"] if cached not in estimated["seconds"]),
    ]:
        bytes_ = of_part.get(name)
        took = estimated["seconds"].get(name)
        shown.add_row(
            PARTS.get(name, name),
            "" if took is None else format_duration(took),
            "",
            size(bytes_) if bytes_ else "",
        )
    shown.add_section()
    total = disk["run"] + sum(disk["cache"].values())
    shown.add_row(
        "total",
        format_duration(estimated["total_seconds"]),
        size(estimated["peak_memory_bytes"]),
        size(total),
        style="bold",
    )
    shown.caption = (
        f"of the disk, {size(disk['run'])} in the run's folder (the set "
        f"{size(estimated['artifact_bytes'])}, the checkpoint "
        f"{size(estimated['checkpoint_bytes'])}), the rest in paths.cache, once"
    )
    return shown


def largest(folder: Path) -> int:
    """Return the bytes of the largest file in ``folder``, without links."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return max((path.stat().st_size for path in files), default=0)


def lend(cache: Path, copy: Path) -> None:
    """Fill ``copy`` with links to the files of ``cache``: trials read these and add none to it."""
    copy.mkdir(parents=True)
    for folder, _, names in os.walk(cache):
        here = copy / Path(folder).relative_to(cache)
        here.mkdir(exist_ok=True)
        for name in names:
            if not name.endswith((".lock", ".partial")):
                (here / name).symlink_to(Path(folder).resolve() / name)


def written(folder: Path) -> dict[str, int]:
    """Return the bytes of the files in ``folder`` by its subfolders, without links."""
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).parts[0]
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return {name: count for name, count in sizes.items() if count}


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the lines and tables of a run, whose figures mean nothing when it is cut short."""
    console, logger = rich.get_console(), logging.getLogger("ddist")
    before = console.quiet, logger.level
    console.quiet = True
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        console.quiet = before[0]
        logger.setLevel(before[1])
