"""task=compare as a command."""

import csv
from pathlib import Path

import pytest
from PIL import Image

PROTOCOL = ("evaluation=dc2021", "evaluation.epochs=2")


@pytest.fixture(scope="module")
def runs(shared_ddist) -> Path:
    for seed in (0, 1):
        shared_ddist.distil(f"seed={seed}", folder=f"runs/dd{seed}")
    shared_ddist.distil("ipc=2", folder="runs/two")
    artifact = f"artifact={shared_ddist.folder}/runs/dd0/distilled"
    evaluated = shared_ddist("task=evaluate", artifact, "hydra.run.dir=runs/again", *PROTOCOL,
                             "evaluation.num_networks=2")  # fmt: skip
    assert evaluated.code == 0, evaluated.err
    (shared_ddist.folder / "runs" / "broken").mkdir()
    (shared_ddist.folder / "runs" / "broken" / "results.json").write_text("{")
    return shared_ddist.folder / "runs"


def test_tables_files_and_plots(ddist, runs: Path) -> None:
    done = ddist("task=compare", f"runs={runs}/**", "hydra.run.dir=compared")
    assert (done.code, done.err) == (0, "")
    broken = f"{runs}/broken/results.json is left out: it is damaged (not JSON): run it again."
    assert broken in done.out and "(4, 2 seeds)" in done.out
    folder = ddist.folder / "compared"
    for name in ("ipc.png", "bytes.png", "seconds.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
    tables = {
        path.stem: list(csv.DictReader(path.read_text().splitlines()))
        for path in folder.glob("*.csv")
    }
    (replay,) = (rows for name, rows in tables.items() if name.startswith("replay-epoch_grid-1-"))
    dc2021 = tables["dc2021-epochs-2"]
    assert [(row["ipc"], row["num_seeds"]) for row in replay] == [("1", "2"), ("2", "1")]
    assert {row["protocol"] for row in dc2021} == {"dc2021 (epochs=2)"}
    assert float(dc2021[0]["distill_seconds"]) > 0  # of the run that made it
    markdown, latex = (folder / "compare.md").read_text(), (folder / "compare.tex").read_text()
    assert markdown.count("\n## ") == latex.count(r"\begin{tabular}") == 2
    assert r"dc2021 (epochs=2)" in latex and "epoch\\_grid=" in latex


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("runs=nowhere/**", "Nothing to compare: runs=nowhere/** leads to no usable results.json"),
        ("", "task=compare needs the runs: runs='outputs/**', a folder, or a list of them."),
        (
            "runs=x task.full=84.8",
            "task.full is a finite number above 0 and of at most 1 or null, not 84.8.",
        ),
    ],
)
def test_mistakes_are_one_sentence(ddist, arguments: str, said: str) -> None:
    done = ddist("task=compare", *arguments.split())
    assert done.code == 1 and done.err.startswith("ddist: ") and done.err.count("\n") == 1
    assert said in done.err
