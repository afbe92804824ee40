"""results.json: the contract of a run's figures."""

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import rich
import torch

import ddist
from ddist.artifact import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Evaluator
from ddist.folder import write_file_whole
from ddist.report.table import results_table
from ddist.seeding import generator
from ddist.synthetic.start import start_images

log = logging.getLogger(__name__)


def provenance(signature: str, config: dict[str, Any]) -> dict[str, Any]:
    """Which code and which settings made the figures."""
    return {
        "ddist": ddist.__version__,
        "torch": torch.__version__,
        "signature": signature,
        "config": config,
    }


def peak_memory_bytes() -> int:
    """Most memory this process has held: on the GPU where one was used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def with_baseline(
    evaluator: Evaluator, distilled: DistilledDataset, data: RealData, seed: int, baseline: bool
) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    """Rows of the distilled set, rows of the baselines by name, and the seconds both took."""
    started = time.monotonic()
    log.info("Evaluating under the protocol %s.", evaluator.protocol.name)
    rows = [row.to_dict() for row in evaluator.run(distilled, data)]
    baselines = {}
    if baseline:
        found = evaluator.run(random_real(distilled, data, seed), data)
        baselines["random"] = found[0].to_dict()
    return rows, baselines, time.monotonic() - started


def random_real(distilled: DistilledDataset, data: RealData, seed: int) -> DistilledDataset:
    """Random real images of the same classes in the same steps: what distilling has to beat."""
    labels = distilled.labels if distilled.labels.ndim == 1 else distilled.labels.argmax(1)
    images = start_images("real", data, labels, generator(seed, "baseline"))
    return DistilledDataset(
        images=images.cpu(),
        labels=labels,
        step_index=distilled.step_index,
        normalization=distilled.normalization,
        meta={**distilled.meta, "method": "random"},
        config="",
    )


def publish(results: dict[str, Any], folder: Path) -> None:
    """Write ``folder/results.json``, whole or not at all, and print the table."""
    write_file_whole(folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    rich.get_console().print(results_table(results))
