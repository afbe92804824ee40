"""Tiny runs of every family give the figures and tensors that they gave."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.golden.runs import FOLDER, RUNS, figures, tensors

# Another processor rounds otherwise, which outer steps enlarge; DDIST_GOLDEN=exact is for the
# machine that the golden runs were made on.
EXACT = os.environ.get("DDIST_GOLDEN") == "exact"
RTOL, ATOL = (0, 0) if EXACT else (1e-3, 1e-3)
IMAGES = 0 if EXACT else 4 / 445  # of the digits' test images, that may be seen otherwise


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_what_it_gave(shared_ddist: Any, name: str) -> None:
    words = [*RUNS[name], f"hydra.run.dir={name}", "paths.cache=cache", "threads=1"]
    done = shared_ddist(*words)
    assert (done.code, done.err) == (0, ""), done.out + done.err
    run: Path = shared_ddist.folder / name
    golden = load_file(FOLDER / f"{name}.safetensors")
    learned = tensors(run)
    assert learned.keys() == golden.keys()
    for key, tensor in golden.items():
        torch.testing.assert_close(learned[key], tensor, rtol=RTOL, atol=ATOL, msg=f"{name}: {key}")
    results = figures(json.loads((run / "results.json").read_text()))
    _compare(results, json.loads((FOLDER / f"{name}.json").read_text()), name)


def _compare(now: Any, golden: Any, place: str) -> None:
    """Fail where nested values differ: numbers by more than some test images."""
    if isinstance(golden, dict):
        assert now.keys() == golden.keys(), place
        for key, value in golden.items():
            _compare(now[key], value, f"{place}.{key}")
    elif isinstance(golden, list):
        assert len(now) == len(golden), place
        for number, (first, second) in enumerate(zip(now, golden, strict=True)):
            _compare(first, second, f"{place}[{number}]")
    elif isinstance(golden, float):
        assert now == pytest.approx(golden, abs=IMAGES, rel=RTOL), place
    else:
        assert now == golden, place
