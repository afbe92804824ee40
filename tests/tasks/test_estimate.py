"""task=estimate: the order of magnitude, everything that is made, and nothing left behind."""

import json
import os
from pathlib import Path
from typing import Any

COMMON = ("task=estimate", "task.seconds=0.2", "paths.cache=cache", "hydra.run.dir=estimate",
          "network.width=4", "evaluation.num_networks=2")  # fmt: skip


# Measures the evaluation in rows instead of seconds, which a busy machine stretches.
IN_ROWS = """
from ddist.evaluation import Evaluator
from ddist.tasks import trials
rows, right = [], Evaluator.row
def row(self, *args, **options):
    rows.append(1)
    return right(self, *args, **options)
Evaluator.row, trials.now = row, lambda: float(len(rows))
"""


def estimate(ddist: Any, *words: str, before: str = "") -> dict[str, Any]:
    done = ddist(*COMMON, *words, before=before)
    assert (done.code, done.err) == (0, ""), done.out + done.err
    assert "What this run will take on this machine" in done.out
    assert "accuracy" not in done.out  # of a run that was cut short it means nothing
    assert {"estimate.json"} == set(os.listdir(ddist.folder / "estimate")) - {
        ".hydra",
        "ddist.log",
    }
    found: dict[str, Any] = json.loads((ddist.folder / "estimate" / "estimate.json").read_text())
    return found


def left(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_experts_that_are_missing_count_and_are_not_left(ddist) -> None:
    words = ("method=mtt", "method.student_steps=3", "evaluation.epochs=20", "steps=20",
             "trajectories.num_experts=4")  # fmt: skip
    found = estimate(ddist, *words)
    assert not list((ddist.folder).glob("cache/experts/*/*/*.safetensors"))
    assert found["seconds"]["experts"] > 0 and found["seconds"]["distilling"] > 0
    done = ddist(*(w for w in (*COMMON, *words) if not w.startswith("task")), "hydra.run.dir=run")
    assert done.code == 0, done.err
    files = left(ddist.folder / "cache")
    assert 0.5 < found["disk_bytes"]["cache"]["experts"] / files < 2
    assert 0.5 < found["disk_bytes"]["run"] / left(ddist.folder / "run") < 2
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    assert found["artifact_bytes"] == results["cost"]["artifact_bytes"]
    assert 0.5 < found["peak_memory_bytes"] / results["cost"]["peak_memory_bytes"] < 2
    again = estimate(ddist, *words)  # what the cache has by now costs nothing
    assert again["seconds"].get("experts", 0) < 1
    assert "experts" not in again["disk_bytes"]["cache"]


def test_what_else_is_trained_first_counts_while_the_cache_lacks_it(ddist) -> None:
    brief = ("evaluation.epochs=20", "task.baseline=false")
    rded = ("method=rded", "network=convnet_bn", "teacher.epochs=3", *brief)
    ddoq = ("method=ddoq", "generative.steps=20", "generative.width=4", *brief)
    pool = ("init=pretrained", "init.num_networks=3", "init.num_held_out=2", "init.epochs=2",
            "network=convnet", "steps=5", "evaluation.epoch_grid=[1]")  # fmt: skip
    for part, words in (("teachers", rded), ("autoencoder", ddoq), ("pool", pool)):
        found = estimate(ddist, *words)
        assert found["seconds"][part] > 0
        done = ddist(*(w for w in (*COMMON, *words) if w[:4] != "task"), f"hydra.run.dir={part}")
        assert done.code == 0, done.err
        kept = left(ddist.folder / "cache" / part)
        assert 0.5 < found["disk_bytes"]["cache"][part] / kept < 2
        assert part not in estimate(ddist, *words)["seconds"]


def test_choosing_real_images_counts_and_its_row(ddist) -> None:
    words = ("method=dm", "method.real_per_class=4", "steps=3", "evaluation.epochs=300",
             "reference.coreset.epochs=2", "task.baseline=false")  # fmt: skip
    with_chosen = estimate(ddist, *words, before=IN_ROWS)["seconds"]
    no_choice = (*words, "reference.coreset.select=null")
    without = estimate(ddist, *no_choice, before=IN_ROWS)["seconds"]
    assert with_chosen["pool"] > 0 and "pool" not in without
    # The set on test images and on held-out ones; the chosen images beside it.
    assert (with_chosen["evaluating"], without["evaluating"]) == (3, 2)


def test_longer_schedules_take_longer(ddist) -> None:
    words = ("method=dm", "method.real_per_class=4", "task.baseline=false")
    short = estimate(ddist, *words, "steps=200", "evaluation.epochs=100")["seconds"]
    long = estimate(ddist, *words, "steps=20000", "evaluation.epochs=10000")["seconds"]
    assert 30 < long["distilling"] / short["distilling"] < 300
    assert 30 < long["evaluating"] / short["evaluating"] < 300
    budget = estimate(ddist, *words, "steps=20000", "budget=7s", "evaluation.epochs=100")
    assert budget["seconds"]["distilling"] == 7


def test_what_cannot_be_run_is_said(ddist) -> None:
    done = ddist("task=estimate", "ipc=1000", "synthetic.start=real")
    assert done.code == 1 and "1000 different real images of the class 0" in done.err


def test_features_that_are_missing_count_and_are_not_left(ddist) -> None:
    """Of probes; the run itself then keeps to a budget."""
    words = ("method=clp", "network=mlp", "init=fixed", "dataset=digits", "method.views=2",
             "evaluation.views=2", "paths.cache=cache", "compile=false")  # fmt: skip
    done = ddist("task=estimate", "task.seconds=0.2", *words, "steps=20", "hydra.run.dir=estimate")
    assert (done.code, done.err) == (0, ""), done.out + done.err
    found = json.loads((ddist.folder / "estimate" / "estimate.json").read_text())
    assert found["seconds"]["features"] < 5  # of so small a network next to nothing
    assert not (ddist.folder / "cache" / "features").exists()
    done = ddist(*words, "budget=25s", "hydra.run.dir=run")
    assert (done.code, done.err) == (0, ""), done.out + done.err
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    cost = results["cost"]
    assert cost["distill_seconds"] + cost["evaluate_seconds"] < 25
    assert 0.2 < found["disk_bytes"]["cache"]["features"] / left(ddist.folder / "cache") < 2
