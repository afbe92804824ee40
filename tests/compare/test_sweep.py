"""The jobs of a sweep as rows, from folders as Hydra and ddist leave them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ddist.compare.sweep import remarks, summarize, sweep_markdown, sweep_sheet
from ddist.errors import DdistError
from ddist.tasks.usual import usual_protocols


@pytest.fixture
def job(write: Callable[..., Path]) -> Callable[..., Path]:
    """``job(name, overrides, **of_write)``: the folder of a job with results, or, with ``failed``,
    the reason why it has none."""

    def make(name: str, words: str, failed: str = "", **options: Any) -> Path:
        folder = write(name, **options).parent
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words.split()))
        if failed:
            (folder / "results.json").unlink()
            (folder / "error.txt").write_text(failed + "\n")
        return folder

    return make


def test_seeds_are_one_row_and_failures_are_named(job: Callable[..., Path]) -> None:
    for lr in (10, 2):
        for seed, accuracy in ((0, 0.5), (1, 0.5 + lr / 100)):
            words = f"method=dm method.lr.images={lr} seed={seed} threads={seed + 1}"
            selection = {"name": "validation_accuracy", "value": accuracy - 0.1}
            folder = job(f"lr-{lr}_{seed}", words, seed=seed, accuracy=accuracy,
                         changes={"selection": selection}).parent  # fmt: skip
    job("lr-3_0", "method=dm method.lr.images=3 seed=0 threads=1", failed="The loss is NaN.")
    summary = summarize(folder, usual_protocols)
    (rows,) = summary.tables.values()
    assert [row.settings for row in rows] == [{"method.lr.images": "2"}, {"method.lr.images": "10"}]
    assert [row.accuracy.mean for row in rows] == pytest.approx([0.51, 0.55])
    assert rows[1].accuracy.std == pytest.approx(0.1 / 2**0.5)  # of two seeds, 0.1 apart
    assert rows[0].accuracy.num_networks == 10
    assert rows[1].selection == ("validation_accuracy", pytest.approx(0.45))
    assert list(summary.failed.values()) == ["The loss is NaN."]
    assert "Best by validation accuracy (45.00 %): method.lr.images=10." in remarks(summary)
    written = sweep_markdown(summary)
    assert "| mnist | 1 | dm | 2 | convnet | 51.00 ± 1.41 (10, 2 seeds) | 60.00" in written
    assert "- Failed: method.lr.images=3 seed=0 threads=1: The loss is NaN." in written


def test_protocols_have_tables_of_their_own(job: Callable[..., Path]) -> None:
    folder = job("a", "evaluation=dc2021_dsa").parent
    job("b", "evaluation=dc2021", protocol="dc2021")
    summary = summarize(folder, usual_protocols)
    assert len(summary.tables) == 2
    for name, rows in summary.tables.items():
        assert len(rows) == 1 and len(sweep_sheet(name, rows).rows) == 1
    assert not [line for line in remarks(summary) if "Best" in line]


def test_a_damaged_file_is_a_job_without_results(job: Callable[..., Path]) -> None:
    folder = job("seed-0", "seed=0", seed=0)
    job("seed-1", "seed=1", seed=1)
    (folder / "results.json").write_text("{")
    assert summarize(folder.parent, usual_protocols).failed == {
        "seed=0": "it is damaged (not JSON): run it again."
    }


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(DdistError, match=r"name the hydra\.sweep\.dir of a sweep"):
        summarize(tmp_path / "none", usual_protocols)
    assert not summarize(tmp_path, usual_protocols)
