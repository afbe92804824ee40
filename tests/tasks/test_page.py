"""The page as runs write it, and again afterwards."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from ddist.artifact.dataset import DistilledDataset
from ddist.tasks.page import read_confusion, read_metrics, read_overrides, read_pictures, write_page


@pytest.fixture(scope="module")
def run(shared_ddist) -> Path:
    return shared_ddist.distil("steps=4", "trainer.log_every_n_steps=1")


def parts(folder: Path) -> set[str]:
    html = (folder / "report.html").read_text()
    ids = ("result", "images", "steps", "curves", "classes", "cost", "load", "run")
    return {each for each in ids if f'<section id="{each}">' in html}


def test_a_run_leaves_a_page_with_every_part(run: Path) -> None:
    assert parts(run) == {"result", "images", "steps", "curves", "classes", "cost", "load", "run"}
    html = (run / "report.html").read_text()
    results = json.loads((run / "results.json").read_text())
    for row in (results["evaluation"][0], results["baselines"]["random"]):
        assert f"{100 * row['accuracy_mean']:.2f} ±" in html
    assert "steps=4" in html and str(run) not in html.partition("All settings")[0]


def test_the_counts_give_the_accuracies_of_results_json(run: Path) -> None:
    results, found = (
        json.loads((run / "results.json").read_text()),
        read_confusion(run / "confusion.npz"),
    )
    assert found.keys() == {"evaluation/0", "baselines/random"}
    for row, counts in ((results["evaluation"][0], found["evaluation/0"]),
                        (results["baselines"]["random"], found["baselines/random"])):  # fmt: skip
        share = np.trace(counts) / counts.sum()
        assert share == pytest.approx(row["accuracy_mean"], abs=1e-9)


def test_evaluating_leaves_a_page_of_its_own(ddist, run: Path) -> None:
    done = ddist(
        "task=evaluate", f"artifact={run}/distilled", "hydra.run.dir=evaluated", "logger=none",
        "evaluation=knn",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "The page: " in done.out and "evaluated/report.html" in done.out
    assert parts(ddist.folder / "evaluated") == {
        "result", "images", "classes", "cost", "load", "run"
    }  # fmt: skip


def test_pages_are_written_again(ddist, run: Path) -> None:
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    done = ddist("task=report", f"runs='{run.parent}/**'")
    assert (done.code, done.err) == (0, "")
    assert (run / "report.html").read_text() == before
    assert "runs='outputs/**'" in ddist("task=report").err
    assert "matches" in ddist("task=report", "runs=nowhere").err


def test_what_is_damaged_costs_the_page_and_not_the_run(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = json.loads((run / "results.json").read_text())
    distilled = DistilledDataset.load(run / "distilled")
    (tmp_path / "distilled").mkdir()
    (tmp_path / "metrics.csv").write_text("step,distill/loss\nzero,1\n")
    with caplog.at_level(logging.WARNING):
        write_page(tmp_path, results, distilled)
    assert "could not be written" in caplog.text and not (tmp_path / "report.html").exists()


def test_what_the_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,a,b\n9,0.5,\n19,0.25,3\n")
    assert read_metrics(tmp_path / "metrics.csv") == {"a": [(10, 0.5), (20, 0.25)], "b": [(20, 3)]}
    for name in ("step_000010.png", "step_000030.png", "step_x.png"):
        (tmp_path / name).write_bytes(b"png")
    assert read_pictures(tmp_path, 20) == [(10, b"png")]
    nowhere = tmp_path / "nowhere"
    assert (read_metrics(nowhere), read_confusion(nowhere), read_overrides(nowhere)) == (
        {},
        {},
        None,
    )
    assert read_pictures(nowhere, None) == []
