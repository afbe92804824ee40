"""Rows of results.json that are kept in the run's folder, each as soon as it is ready."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import ddist
from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import TENSORS
from ddist.data import RealData
from ddist.data.split import Split
from ddist.evaluation import Evaluator, Row
from ddist.storage.atomic import write_file_whole
from ddist.storage.sharing import checksum
from ddist.storage.signature import signature
from ddist.tasks.claim import EVALUATED

log = logging.getLogger(__name__)


class KeptRows:
    """Rows of ``evaluator`` that outlive an interrupted run: what a run of the same ``settings``
    has finished, in ``seconds``, lies in ``folder/evaluated`` until :meth:`remove`."""

    def __init__(self, evaluator: Evaluator, folder: Path, settings: Mapping[str, Any]) -> None:
        self.evaluator, self.folder = evaluator, folder / EVALUATED
        versions = {"ddist": ddist.__version__, "torch": torch.__version__}
        self.settings = {"settings": settings, "versions": versions}
        self.seconds = 0.0
        self.took = 0.0
        """The seconds of the last row, kept or computed."""

    def run(
        self, name: str, distilled: DistilledDataset, data: RealData, split: Split | None = None
    ) -> list[Row]:
        """Return a row per network of a set called ``name``, on the test split or on ``split``."""
        tensors = {tensor_name: getattr(distilled, tensor_name) for tensor_name in TENSORS}
        content = checksum({k: v.detach().cpu() for k, v in tensors.items() if v is not None})
        return [
            self.once(
                f"{name} {network} {content}",
                partial(self.evaluator.row, network, distilled, data, split),
            )
            for network in self.evaluator.tested
        ]

    def once(self, key: str, compute: Callable[[], Row]) -> Row:
        """Return the row that is kept under ``key``; compute and keep it where there is none."""
        path = self.folder / f"{signature({'key': key, **self.settings})}.json"
        try:
            kept = json.loads(path.read_bytes())
            seconds, counts, row = kept["seconds"], kept["confusion"], Row(**kept["row"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            started = time.monotonic()
            row = compute()
            self.took = time.monotonic() - started
            content = {
                "seconds": self.took,
                "row": row.to_dict(),
                "confusion": None if row.confusion is None else row.confusion.tolist(),
            }
            write_file_whole(path, json.dumps(content).encode())
            return row
        log.info("Evaluated before: %s.", " under ".join(key.split(" ")[:2]))
        self.seconds += seconds
        self.took = seconds
        return replace(row, confusion=None if counts is None else torch.tensor(counts))

    def remove(self) -> None:
        """Remove the kept rows, once results are written or where a run starts over."""
        shutil.rmtree(self.folder, ignore_errors=True)
