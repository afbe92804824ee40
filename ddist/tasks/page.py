"""report.html in a run's folder, from what lies there, and the task that writes it again."""

import csv
import io
import json
import logging
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import DictConfig
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.errors import DdistError
from ddist.report.classes import Counts
from ddist.report.curve import Point
from ddist.report.page import page
from ddist.storage.atomic import write_file_whole
from ddist.tasks.names import find_patterns

log = logging.getLogger(__name__)

PAGE, CONFUSION, RESULTS = "report.html", "confusion.npz", "results.json"


def run(cfg: DictConfig) -> None:
    """Write the pages of the finished runs in ``cfg.runs`` again, folders or patterns of them."""
    runs = find_patterns(cfg)
    paths = (
        path for pattern in runs for path in glob(str(Path(pattern).expanduser()), recursive=True)
    )
    folders = sorted({path for pattern in paths if ((path := Path(pattern)) / RESULTS).is_file()})
    if not folders:
        raise DdistError(f"No folder with a {RESULTS} matches runs={' '.join(runs)}.")
    for folder in folders:
        try:
            results = json.loads((folder / RESULTS).read_bytes())
            distilled = DistilledDataset.load(location(folder, results))
        except (DdistError, KeyError, ValueError) as error:
            log.warning("%s is left out: %s", folder, error)
            continue
        write_page(folder, results, distilled)


def location(folder: Path, results: dict[str, Any]) -> Path:
    """Return the artifact that a run made or evaluated. Raise a DdistError where it has none."""
    own = folder / "distilled"
    if own.is_dir():
        return own
    artifact = results["provenance"]["config"].get("artifact")
    if artifact is None:
        raise DdistError(f"there is no {own}")
    return Path(artifact).expanduser()


def write_page(folder: Path, results: dict[str, Any], distilled: DistilledDataset) -> None:
    """Write ``folder/report.html``. A run does not fail for want of its page: log what goes wrong
    in one line."""
    steps = results.get("steps")
    try:
        lies = location(folder, results)
        html = page(
            results,
            distilled,
            location="distilled" if lies.parent == folder else str(lies),
            confusion=read_confusion(folder / CONFUSION),
            metrics=read_metrics(folder / "metrics.csv"),
            pictures=read_pictures(folder / "images", steps),
            overrides=read_overrides(folder / ".hydra" / "overrides.yaml"),
        )
        write_file_whole(folder / PAGE, html.encode())
    except Exception as error:
        log.warning("%s could not be written: %s", folder / PAGE, error)
        log.debug("", exc_info=True)
        return
    log.info("The page: %s", folder / PAGE)


def write_confusion(folder: Path, confusion: Mapping[str, Tensor]) -> None:
    """Write counts of predictions as int64 arrays [C, C] by their row of results.json, such as
    ``evaluation/0`` and ``baselines/random``: too large for JSON."""
    if not confusion:
        (folder / CONFUSION).unlink(missing_ok=True)  # of an earlier run in this folder
        return
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: pattern.numpy() for name, pattern in confusion.items()}
    np.savez_compressed(buffer, **arrays)
    write_file_whole(folder / CONFUSION, buffer.getvalue())


def read_confusion(path: Path) -> dict[str, Counts]:
    """Return what :func:`write_confusion` wrote; an empty dict where it wrote nothing."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.int64) for name in arrays.files}


def read_metrics(path: Path) -> dict[str, list[Point]]:
    """Return each metric over the outer steps done when it was logged; nothing without a file."""
    if not path.is_file():
        return {}
    by_name: dict[str, list[Point]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step")) + 1  # Lightning counts from 0
            for name, value in row.items():
                if value:
                    by_name.setdefault(name, []).append((step, float(value)))
    return by_name


def read_pictures(folder: Path, steps: int | None) -> list[tuple[int, bytes]]:
    """Return (step, PNG) of ``step_*.png`` up to ``steps``: later ones are of an earlier run."""
    numbered = ((path.stem.removeprefix("step_"), path) for path in folder.glob("step_*.png"))
    by_name = [(int(number), path) for number, path in numbered if number.isdecimal()]
    return [(n, path.read_bytes()) for n, path in by_name if steps is None or n <= steps]


def read_overrides(path: Path) -> list[str] | None:
    """Return the words of the command line as Hydra noted them; None without a file."""
    return [str(word) for word in yaml.safe_load(path.read_text())] if path.is_file() else None
