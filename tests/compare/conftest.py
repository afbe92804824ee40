"""results.json files as ddist writes them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RESULTS: dict[str, Any] = {
    "schema": 1,
    "method": "dm",
    "dataset": "mnist",
    "network": "convnet",
    "init": "random",
    "ipc": 1,
    "steps": 10,
    "seed": 0,
    "protocol": "dc2021_dsa",
    "evaluation": [
        {"protocol": "dc2021_dsa", "network": "convnet", "accuracy_mean": 0.9, "accuracy_std": 0.01,
         "accuracy_ci95": 0.01, "num_networks": 5}
    ],
    "baselines": {
        "random": {"protocol": "dc2021_dsa", "network": "convnet", "accuracy_mean": 0.6,
                   "accuracy_std": 0.02, "accuracy_ci95": 0.01, "num_networks": 5}
    },
    "cost": {"distill_seconds": 100.0, "evaluate_seconds": 1.0, "peak_memory_bytes": 10**9,
             "steps_per_second": 0.1, "artifact_bytes": 31_400},
    "provenance": {
        "ddist": "0.1.0", "torch": "2", "signature": "x",
        "config": {
            "ipc": 1, "seed": 0, "steps": 10, "artifact": None,
            "network": {"width": 128, "depth": 3},
            "synthetic": {"labels": "hard", "factor": 1},
            "teacher": {"store": False},
            "evaluation": {"name": "dc2021_dsa", "epochs": 1000, "num_networks": 5,
                           "augment": {"strategy": ["flip"]}, "mix": None, "labels": "own"},
            "method": {"lr": {"images": 1.0}},
        },
    },
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(name, {"path.to.key": value})``: a results.json with these values, and its file;
    ``seed``, ``accuracy`` and ``protocol`` are set wherever they stand."""

    def make(name: str, changes: dict[str, Any] | None = None, **common: Any) -> Path:
        results = copy.deepcopy(RESULTS)
        config = results["provenance"]["config"]
        row, random = results["evaluation"][0], results["baselines"]["random"]
        if "seed" in common:
            results["seed"] = config["seed"] = common["seed"]
        if "accuracy" in common:
            row["accuracy_mean"] = common["accuracy"]
        if "protocol" in common:
            for part in (results, row, random):
                part["protocol"] = common["protocol"]
            config["evaluation"]["name"] = common["protocol"]
        for path, value in (changes or {}).items():
            part, (*above, last) = results, path.split(".")
            for key in above:
                part = part[int(key) if isinstance(part, list) else key]
            part[last] = value
        file = tmp_path / "runs" / name / "results.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results))
        return file

    return make
