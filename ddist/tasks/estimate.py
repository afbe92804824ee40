"""task=estimate: what a run will take on this machine, from the beginning of each of its parts."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rich
from omegaconf import DictConfig
from rich.table import Table

from ddist.errors import DdistError
from ddist.formatting import format_duration, parse_duration, size
from ddist.pace import Pace
from ddist.storage.atomic import write_file_whole
from ddist.tasks import distill
from ddist.tasks.results import peak_memory_bytes

log = logging.getLogger(__name__)

PARTS = {  # in the table's order; others, which the cache names, come in between
    "starting": "starting",
    "data": "reading the data",
    "preparing": "preparing the images",
    "pool": "training a pool of networks",
    "experts": "training experts",
    "teachers": "training a teacher",
    "autoencoder": "training an autoencoder",
    "latents": "encoding",
    "quantizing": "clustering",
    "zca": "whitening",
    "decoded": "decoding pictures",
    "distilling": "distilling",
    "evaluating": "evaluating",
    "rest": "all else",
}


def run(cfg: DictConfig, *, baseline: bool, seconds: float) -> None:
    """Begins the run of ``cfg`` in a folder that is removed, watching each part for ``seconds`` at
    least; prints the table and writes ``estimate.json``."""
    if not seconds > 0:
        raise DdistError(f"task.seconds is above 0, such as 3, not {seconds}.")
    before = since_start()
    folder = Path(cfg.paths.run)
    cache, budget = Path(str(cfg.paths.cache)).expanduser(), cfg.budget
    log.info("Beginning each part of the run, to see how long all of it takes.")
    with TemporaryDirectory(prefix="ddist-estimate-") as temporary:
        tried = Path(temporary)
        lend(cache, tried / "cache")
        cfg.paths.run, cfg.paths.cache = str(tried / "run"), str(tried / "cache")
        cfg.resume, cfg.budget = False, None
        with Pace(seconds) as pace, quietly():
            started = pace.now()
            distill.run(cfg, baseline=baseline)
            whole = pace.now() - started
        found = summary(cfg, pace, whole, tried)
    found["seconds"] = {"starting": before, **found["seconds"]}
    if budget is not None:
        found["seconds"]["distilling"] = min(found["seconds"]["distilling"], parse_duration(budget))
    found["total_seconds"] = sum(found["seconds"].values())
    write_file_whole(folder / "estimate.json", (json.dumps(found, indent=2) + "\n").encode())
    rich.get_console().print(table(found))


def summary(cfg: DictConfig, pace: Pace, whole: float, tried: Path) -> dict[str, Any]:
    """The content of estimate.json but for the total, from what lies in ``tried``."""
    seconds = dict(pace.parts)
    seconds["rest"] = max(0.0, whole - sum(pace.parts.values()))
    cache = written(tried / "cache") | pace.files
    results = json.loads((tried / "run" / "results.json").read_bytes())
    return {
        "schema": 1,
        "seconds": {name: seconds[name] for name in sorted(seconds, key=order)},
        "peak_memory_bytes": peak_memory_bytes(),
        "disk_bytes": {"run": run_bytes(cfg, tried / "run", results["steps"]), "cache": cache},
        "artifact_bytes": results["cost"]["artifact_bytes"],
        "checkpoint_bytes": sum(written(tried / "run" / "checkpoints").values()),
    }


def run_bytes(cfg: DictConfig, folder: Path, done: int) -> int:
    """Bytes of the run's folder, of which ``done`` outer steps are in ``folder``: rows of metrics
    are still to come, and pictures, which the page holds too, in base 64."""
    found = sum(written(folder).values())
    if done == 0:
        return found  # nothing is learned
    metrics = folder / "metrics.csv"
    if metrics.exists():
        found += round(metrics.stat().st_size * max(0.0, cfg.steps / done - 1))
    wanted = cfg.callbacks.images.num_pictures if cfg.callbacks.get("images") else 0
    missing = min(wanted, cfg.steps) - len(list((folder / "images").glob("*.png")))
    picture = (folder / "distilled" / "grid.png").stat().st_size
    return found + round(picture * (1 + 4 / 3) * max(0, missing))


def order(part: str) -> int:
    """A part's place in the table."""
    names = list(PARTS)
    return names.index(part) if part in names else names.index("distilling")


def table(found: dict[str, Any]) -> Table:
    """What estimate.json says, part by part."""
    shown = Table(title="What this run will take on this machine", title_style="bold")
    shown.add_column("part")
    for name in ("time", "memory", "disk"):
        shown.add_column(name, justify="right")
    disk = found["disk_bytes"]
    of_part = {**disk["cache"], "distilling": disk["run"]}
    for name in [
        *found["seconds"],
        *(each for each in disk["cache"] if each not in found["seconds"]),
    ]:
        bytes_ = of_part.get(name)
        took = found["seconds"].get(name)
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
        format_duration(found["total_seconds"]),
        size(found["peak_memory_bytes"]),
        size(total),
        style="bold",
    )
    shown.caption = (
        f"of the disk, {size(disk['run'])} in the run's folder (the set "
        f"{size(found['artifact_bytes'])}, the checkpoint {size(found['checkpoint_bytes'])}), the "
        "rest in paths.cache, once"
    )
    return shown


def lend(cache: Path, copy: Path) -> None:
    """A folder with links to the files of ``cache``: what is there counts, and nothing comes in."""
    copy.mkdir(parents=True)
    for folder, _, names in os.walk(cache):
        here = copy / Path(folder).relative_to(cache)
        here.mkdir(exist_ok=True)
        for name in names:
            if not name.endswith((".lock", ".partial")):
                (here / name).symlink_to(Path(folder).resolve() / name)


def written(folder: Path) -> dict[str, int]:
    """Bytes of the files in ``folder`` by its subfolders, without links."""
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).parts[0]
            found[name] = found.get(name, 0) + path.stat().st_size
    return {name: count for name, count in found.items() if count}


def since_start() -> float:
    """Seconds of importing and composing before the first run's task; the CPU's, where nobody
    knows when the process began."""
    status, uptime = Path("/proc/self/stat"), Path("/proc/uptime")
    if not (status.exists() and uptime.exists()):
        return time.process_time()
    ticks = int(status.read_text().rsplit(")", 1)[1].split()[19])
    return float(uptime.read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def quietly() -> Iterator[None]:
    """Without the lines and tables of a run, whose figures mean nothing when it is cut short."""
    console, logger = rich.get_console(), logging.getLogger("ddist")
    before = console.quiet, logger.level
    console.quiet = True
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        console.quiet = before[0]
        logger.setLevel(before[1])
