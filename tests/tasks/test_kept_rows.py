"""An evaluation that is stopped: finished rows stay, and what goes on has the same figures."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import TENSORS
from ddist.evaluation import Row
from ddist.tasks.rows import KeptRows
from ddist.tasks.selection import select
from tests.conftest import EVALUATED

# The trained networks of each row are counted; one that is to be row ``STOP`` stops the process.
COUNTING = """
import os
from ddist.evaluation import Evaluator
from ddist.tasks import results
row, full, count = Evaluator.row, results.measured_full, 0
def counted(function):
    def count_and_call(*args):
        global count
        if count == STOP:
            os.kill(os.getpid(), NUMBER)
        count += 1
        print("computed", count)
        return function(*args)
    return count_and_call
Evaluator.row, results.measured_full = counted(row), counted(full)
"""
RUN = (
    "steps=2", "hydra.run.dir=run", *EVALUATED,
    "evaluation.networks=[mlp,lenet]", "dataset.size=12", "dataset.validation=0.2",
    "reference.measure=true", "reference.training={num_networks:1,epochs:1}",
    "compile=false",
)  # fmt: skip
ROWS = 2 + 2 + 1 + 2  # of the set, of random images, of all images, and on held-out images


def counting(stop: int = -1, number: signal.Signals = signal.SIGTERM) -> str:
    return COUNTING.replace("STOP", str(stop)).replace("NUMBER", str(int(number)))


def figures(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    with np.load(folder / "confusion.npz") as arrays:
        counts = {name: arrays[name].tolist() for name in arrays.files}
    return {key: found.get(key) for key in ("evaluation", "baselines", "selection")} | counts


@pytest.fixture(scope="module")
def whole(shared_ddist) -> dict[str, Any]:
    done = shared_ddist(*RUN, before=counting())
    assert (done.code, done.err, done.out.count("computed")) == (0, "", ROWS), done.out
    assert not (shared_ddist.folder / "run" / "evaluated").exists()
    return figures(shared_ddist.folder / "run")


def test_the_same_command_computes_what_is_missing_and_has_the_same_figures(ddist, whole) -> None:
    done_before = 0
    for stop, number in ((3, signal.SIGTERM), (2, signal.SIGINT), (1, signal.SIGKILL)):
        stopped = ddist(*RUN, before=counting(stop, number))
        assert stopped.out.count("computed") == stop
        done_before += stop
        if number == signal.SIGKILL:
            assert stopped.code == -number
            continue
        assert stopped.code == 128 + number and stopped.err.count("\n") == 1, stopped.err
        assert f"with {done_before} finished rows of results, and the same command" in stopped.err
    last = ddist(*RUN, before=counting())
    assert (last.code, last.err) == (0, "")
    assert last.out.count("computed") == ROWS - done_before
    assert "Evaluated before: random under lenet." in last.out
    folder = ddist.folder / "run"
    assert figures(folder) == whole
    assert not (folder / "evaluated").exists()
    cost = json.loads((folder / "results.json").read_text())["cost"]
    assert cost["evaluate_seconds"] > 0


def test_rows_of_other_settings_and_of_a_run_that_starts_over_do_not_count(ddist, whole) -> None:
    ddist(*RUN, before=counting(4))
    other = ddist(*RUN, "evaluation.num_networks=3", before=counting(1))
    assert other.out.count("computed") == 1  # and the four are still there
    anew = ddist(*RUN, "resume=false", before=counting())
    assert (anew.code, anew.out.count("computed")) == (0, ROWS)
    assert figures(ddist.folder / "run") == whole


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"seconds": 1, "row": {"net'])
def test_a_damaged_file_is_computed_again(tmp_path: Path, content: bytes) -> None:
    row = Row("replay", "mlp", 0.1 + 0.2, None, None, 1, {"epochs": 3}, {}, torch.eye(2).long())
    evaluator: Any = None  # which nobody asks
    KeptRows(evaluator, tmp_path, {}).once("the set", lambda: row)
    (file,) = (tmp_path / "evaluated").iterdir()
    again = KeptRows(evaluator, tmp_path, {})
    kept = again.once("the set", lambda: pytest.fail("computed twice"))
    assert kept == row and torch.equal(kept.confusion, row.confusion) and again.seconds > 0
    file.write_bytes(content)
    assert again.once("the set", lambda: replace(row, network="lenet")).network == "lenet"
    assert KeptRows(evaluator, tmp_path, {}).once("the set", lambda: row).network == "lenet"
    assert KeptRows(evaluator, tmp_path, {"seed": 1}).once("the set", lambda: row) is row


def test_an_evaluation_by_itself_goes_on_too(ddist, shared_ddist, whole) -> None:
    run = [*RUN[1:5], "task=evaluate", f"artifact={shared_ddist.folder}/run/distilled"]
    stopped = ddist(*run, before=counting(3))
    said = f"ddist: Stopped by SIGTERM: the evaluation so far is in {ddist.folder}/run/eval"
    assert stopped.code == 143 and stopped.err.startswith(said), stopped.err
    assert "evaluated with 3 finished rows of results" in stopped.err
    assert stopped.err.endswith("/run does what is missing.\n")
    done = ddist(*run, before=counting())
    assert (done.code, done.out.count("computed")) == (0, 1)
    assert figures(ddist.folder / "run")["evaluation"] == whole["evaluation"]


def test_rows_are_kept_for_a_set_by_its_tensors(tmp_path: Path) -> None:
    """A set that was learned anew, under the same settings and name, is evaluated anew."""

    class Evaluator:
        tested = ("mlp",)

        def row(self, network: str, distilled: DistilledDataset, *_: Any) -> Row:
            return Row("dc2021", network, float(distilled.images.mean()), None, None, 1)

    def accuracy(value: float) -> float:
        images, labels = torch.full((2, 1, 4, 4), value), torch.arange(2)
        meta = {
            "dataset": "two",
            "method": "dm",
            "class_names": ["a", "b"],
            "num_classes": 2,
            "image_shape": (1, 4, 4),
            "ipc": 1,
        }
        parts: dict[str, Any] = {"normalization": {"kind": "none"}, "meta": meta, "config": ""}
        distilled = DistilledDataset(images=images, labels=labels, **parts)
        evaluator: Any = Evaluator()
        kept = KeptRows(evaluator, tmp_path, {"steps": 2})
        data: Any = None
        return kept.run("the set", distilled, data)[0].accuracy_mean

    assert [accuracy(value) for value in (0.25, 0.25, 0.5)] == [0.25, 0.25, 0.5]
    assert len(list((tmp_path / "evaluated").iterdir())) == 2


def test_a_selection_looks_at_the_images_that_are_held_out_alone(tmp_path: Path) -> None:
    asked: list[Any] = []

    class Evaluator:
        tested = ("mlp",)

        def row(self, network: str, distilled: Any, data: Any, split: Any) -> Row:
            asked.append(split)
            return Row("dc2021", network, 0.25, None, None, 1)

    evaluator: Any = Evaluator()
    distilled: Any = SimpleNamespace(**dict.fromkeys(TENSORS), meta={"outer_loss": 3.0})
    data: Any = SimpleNamespace(validation="held out", test="test")
    rows = KeptRows(evaluator, tmp_path, {})
    assert select(rows, distilled, data) == {"name": "validation_accuracy", "value": 0.25}
    assert asked == ["held out"]
    data.validation = None
    assert select(rows, distilled, data) == {"name": "outer_loss", "value": 3.0}
    assert asked == ["held out"]
