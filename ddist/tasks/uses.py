"""What tasks about the use of a distilled set leave: results.json, tables and pictures."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import ddist
from ddist.compare.files import RESULTS
from ddist.compare.sheet import Sheet, console, markdown, rich_table
from ddist.storage.atomic import write_file_whole
from ddist.tasks.checks import check_free
from ddist.tasks.claim import EVALUATED
from ddist.tasks.config import to_plain
from ddist.tasks.names import option_of
from ddist.tasks.results import peak_memory_bytes

log = logging.getLogger(__name__)


def begin_use(cfg: DictConfig, *kept: str) -> None:
    """Raise a DdistError where a distillation has left its results in the run's folder; without
    ``cfg.resume``, remove what a stopped run has left there, in the folders ``kept`` too."""
    folder = Path(cfg.paths.run)
    check_free(folder)
    if not cfg.resume:
        for name in (EVALUATED, *kept):
            shutil.rmtree(folder / name, ignore_errors=True)


def use_results(
    cfg: DictConfig, names: Mapping[str, str], protocol: str, started: float
) -> dict[str, Any]:
    """Return the dict of results.json of a task that holds no evaluation of one set: what was run,
    by ``names``, since ``started`` on the monotonic clock. The task adds its figures, and under
    ``summary`` those that the table of a sweep shows."""
    return {
        "schema": 1,
        "task": option_of("task"),
        **names,
        "ipc": cfg.ipc,
        "seed": cfg.seed,
        "protocol": protocol,
        "summary": {},
        "cost": {
            "seconds": time.monotonic() - started,
            "peak_memory_bytes": peak_memory_bytes(),
        },
        "provenance": {
            "ddist": ddist.__version__,
            "torch": torch.__version__,
            "config": to_plain(cfg),
        },
    }


def publish_use(
    folder: Path,
    results: Mapping[str, Any],
    sheets: list[Sheet],
    notes: Sequence[str],
    pictures: Mapping[str, bytes],
) -> None:
    """Write ``results`` to ``folder/results.json``, the tables with ``notes`` to a Markdown file of
    the task's name and the ``pictures`` beside it, by their names; print the tables. Rows that were
    kept for a stop are removed."""
    task = str(results["task"])
    title = f"{task}: {results['method']} · {results['dataset']} · {results['ipc']} per class"
    for name, content in pictures.items():
        write_file_whole(folder / name, content)
        log.info("The picture: %s", folder / name)
    write_file_whole(folder / f"{task}.md", markdown(sheets, notes, title).encode())
    write_file_whole(folder / RESULTS, (json.dumps(results, indent=2) + "\n").encode())
    shutil.rmtree(folder / EVALUATED, ignore_errors=True)
    screen = console()
    for sheet in sheets:
        screen.print(rich_table(sheet))
    for note in notes:
        screen.print(note, highlight=False, markup=False, soft_wrap=True)
