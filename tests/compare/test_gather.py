"""results.json files found, checked, put together and apart."""

import json
import os
from pathlib import Path

import pytest

from ddist.compare.files import find
from ddist.compare.gather import gather
from ddist.compare.robust import robust_scores
from ddist.compare.rows import make_rows

USUAL = {"dc2021_dsa": {"name": "dc2021_dsa", "epochs": 1000, "num_networks": 20}}
NETWORKS = {"convnet": {"width": 128, "depth": 3}}


def rows_of(runs: Path, **options):
    found = gather([str(runs)], USUAL)
    return found, make_rows(found.figures, NETWORKS, 2.0, 2.0)


def test_patterns_folders_and_files_lead_to_results(write, tmp_path: Path) -> None:
    files = [write("a"), write("b/c")]
    unfinished = tmp_path / "runs" / "d" / "settings.json"
    unfinished.parent.mkdir()
    unfinished.write_text("{}")
    said = [f"{unfinished.parent} has no results.json: that run did not finish."]
    runs = tmp_path / "runs"
    for pattern in (f"{runs}/**", f"{runs}", f"{tmp_path}/r*", f"{runs}/**/*"):
        found, problems = find([pattern])
        assert (sorted(found), problems) == (files, said), pattern
    assert find([f"{runs}/*/results.json"]) == ([files[0]], [])
    assert find([str(files[1])]) == ([files[1]], [])
    assert find([f"{runs}/nothing*"]) == ([], [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("{", "it is damaged (not JSON): run it again."),
        ("[1]", "it was not written by ddist."),
        ('{"accuracy": 0.5}', "it was not written by ddist."),
        ({"schema": 2}, "it has schema 2: a newer ddist reads that."),
        ({"ipc": "one"}, "it has no 'ipc' as ddist writes it."),
        ({"provenance": {}}, "it does not say with which settings it was made"),
        ({"evaluation": []}, "it holds no evaluation."),
        ({"evaluation": [3]}, "a row of its evaluation is not as ddist writes it."),
        ({"evaluation.0.accuracy_mean": 93.1}, "an accuracy is a fraction from 0 to 1, and this"),
        ({"evaluation.0.accuracy_mean": float("nan")}, "an accuracy is a fraction from 0 to 1"),
        ({"baselines.random": 3}, "a row of its baselines is not as ddist writes it."),
        ({"provenance.config.method": [3], "provenance.config.dataset": 3}, "its settings ("),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_shown(
    write, tmp_path: Path, changes, said: str
) -> None:
    write("good")
    bad = write("bad", changes if isinstance(changes, dict) else None)
    if isinstance(changes, str):
        bad.write_text(changes)
    found = gather([str(tmp_path / "runs")], USUAL)
    assert len(found.figures) == 1
    (problem,) = found.problems
    assert problem.startswith(f"{bad} is left out: {said}")


def test_seeds_of_the_same_settings_are_one_row(write, tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.90, 0.92, 0.97)):
        write(f"s{seed}", accuracy=accuracy, seed=seed)
    write("other", {"provenance.config.method.lr.images": 5.0}, accuracy=0.8)
    found, tables = rows_of(tmp_path / "runs")
    three, one = tables["dc2021_dsa"]
    assert (len(three.figures), len(one.figures)) == (3, 1)
    assert three.accuracy.mean == pytest.approx(0.93)
    assert three.accuracy.std == pytest.approx(0.0360555, abs=1e-6)  # over seeds, n - 1
    assert (three.accuracy.num_networks, one.accuracy.std) == (15, 0.01)
    assert (three.differences, one.differences) == ("lr.images=1.0", "lr.images=5.0")
    assert found.problems == []


def test_parts_of_several_kinds_are_told_by_their_class(write, tmp_path: Path) -> None:
    for name, kind in (("one", "ddist.generative.Pca"), ("other", "ddist.generative.Identity")):
        write(name, {"provenance.config.method.generative": {"_target_": kind, "components": 8}})
    _, tables = rows_of(tmp_path / "runs")
    assert {row.differences for row in tables["dc2021_dsa"]} == {
        "generative=Pca",
        "generative=Identity",
    }


def test_images_stored_as_something_else_are_told_by_their_code(write, tmp_path: Path) -> None:
    code = {"_target_": "ddist.artifact.codes.Bases", "shrink": 2}
    coded = {"_target_": "ddist.synthetic.Coded", "copies": 8, "code": code}
    write("bases", {"provenance.config.synthetic": coded})
    write("mirrored", {"provenance.config.synthetic": {**coded, "mirror": True}})
    tiles = {"_target_": "ddist.synthetic.Pixel", "factor": 2}
    write("tiles", {"provenance.config.synthetic": tiles})
    write("pixels", {"provenance.config.synthetic": {**tiles, "factor": 1}})
    _, tables = rows_of(tmp_path / "runs")
    assert {row.differences for row in tables["dc2021_dsa"]} == {
        "synthetic=Bases x8",
        "synthetic=Bases x16",
        "synthetic=Pixel x4",
        "synthetic=Pixel x1",
    }


def test_a_repeated_run_counts_once(write, tmp_path: Path) -> None:
    old, new = write("old", accuracy=0.5), write("new", accuracy=0.6)
    os.utime(old, (1, 1))
    found, tables = rows_of(tmp_path / "runs")
    assert [row.accuracy.mean for row in tables["dc2021_dsa"]] == [0.6]
    assert found.problems == [f"{old} is left out: {new} repeats its settings and its seed."]


def test_protocols_and_their_settings_are_apart(write, tmp_path: Path) -> None:
    write("a")
    write("b", {"provenance.config.evaluation.epochs": 300})
    write("c", {"provenance.config.evaluation.num_networks": 3}, seed=1)  # the same protocol
    write("d", protocol="dc2021")
    _, tables = rows_of(tmp_path / "runs")
    sizes = {name: sum(len(row.figures) for row in rows) for name, rows in tables.items()}
    assert sizes == {"dc2021": 1, "dc2021_dsa": 2, "dc2021_dsa (epochs=300)": 1}


def test_poisoned_accuracy_is_compared_with_nothing(write, tmp_path: Path) -> None:
    write("wanted", {"provenance.config.objective": {"_target_": "a.classification"}}, seed=1)
    attack = {"provenance.config.objective": {"_target_": "a.Poison"}}
    write("harm", attack | {"provenance.config.method.objective": None}, accuracy=0.5)
    write("no_objective_of_its_own", attack, seed=2)
    found, tables = rows_of(tmp_path / "runs")
    (poisoned,) = tables.pop("dc2021_dsa (objective=poison)")
    assert poisoned.comparison.published is None and poisoned.comparison.note == ""
    (others,) = tables.values()
    assert [row.comparison.published is not None for row in others] == [True, True]
    assert len(robust_scores(found.figures, None, NETWORKS)) == 2


def test_a_set_that_was_evaluated_by_itself_has_the_cost_of_its_run(write, tmp_path: Path) -> None:
    source = write("source")
    artifact = str(source.parent / "distilled")
    write("again", {"provenance.config.artifact": artifact, "cost.distill_seconds": None},
          protocol="dc2021")  # fmt: skip
    _, tables = rows_of(tmp_path / "runs")
    assert [row.seconds for rows in tables.values() for row in rows] == [100.0, 100.0]
    # also when only the evaluation is named
    _, tables = rows_of(tmp_path / "runs" / "again")
    assert [row.seconds for rows in tables.values() for row in rows] == [100.0]


def test_robust_scores_need_their_runs(write, tmp_path: Path) -> None:
    source = write("source", accuracy=0.9)
    artifact = {"provenance.config.artifact": str(source.parent / "distilled")}
    (only,) = robust_scores(gather([str(tmp_path / "runs")], USUAL).figures, None, NETWORKS)
    assert only.augmentation is None
    # w IOR - (1 - w) HLR = .5 (.9 - .6) - .5 (.996 - .9) = .102
    assert only.label == pytest.approx(0.31463, abs=1e-4)
    plain = {"provenance.config.evaluation.augment": None, "evaluation.0.accuracy_mean": 0.8,
             "baselines.random.accuracy_mean": 0.5}  # fmt: skip
    write("plain", artifact | plain, protocol="dc2021")
    (both,) = robust_scores(gather([str(tmp_path / "runs")], USUAL).figures, None, NETWORKS)
    # beta = .5 (.9 - .6) + .5 (.8 - .5) = .3
    assert both.augmentation == pytest.approx(0.41778, abs=1e-4)
    assert both.augmentation_control == pytest.approx(0.26894, abs=1e-4)
    assert both.label_control is not None and both.label_control < only.label
    assert "99.6 % (Zhao et al. 2021" in both.source and "dc2021_dsa and dc2021" in both.source


def test_soft_labels_need_a_run_with_hard_ones(write, tmp_path: Path) -> None:
    soft = {"provenance.config.synthetic.labels": "soft"}
    source = write("source", soft, accuracy=0.9)
    figures = gather([str(tmp_path / "runs")], USUAL).figures
    assert robust_scores(figures, None, NETWORKS) == []
    write("hard", soft | {"provenance.config.evaluation.labels": "hard",
                          "provenance.config.artifact": str(source.parent / "distilled"),
                          "evaluation.0.accuracy_mean": 0.7},
          protocol="dc2021_dsa")  # fmt: skip
    figures = gather([str(tmp_path / "runs")], {"dc2021_dsa": {"labels": "own"}}).figures
    (found,) = robust_scores(figures, 0.996, NETWORKS)
    # .5 (.9 - .6) - .5 (.996 - .7) = .002
    assert found.label == pytest.approx(0.26979, abs=1e-4)


def test_kept_runs_are_lines_of_one_file(write, tmp_path: Path) -> None:
    distilled = json.loads(write("distilled").read_text())
    evaluated = json.loads(
        write("evaluated", {"cost": {}, "provenance.config.artifact": "mine"}, protocol="dc2021")
        .read_text()
    )  # fmt: skip
    kept = tmp_path / "kept" / "mnist.jsonl"
    kept.parent.mkdir()
    lines = [{"name": "mine", **distilled}, {"name": "other", **evaluated}]
    kept.write_text("\n".join([*map(json.dumps, lines), "{"]) + "\n")
    found = gather([str(kept.parent)], USUAL)
    assert found.problems == [f"{kept}:3 is left out: it is damaged (not JSON): run it again."]
    assert [(f.protocol, f.seconds, str(f.file)) for f in found.figures] == [
        ("dc2021_dsa", 100.0, f"{kept}:1"),
        ("dc2021", 100.0, f"{kept}:2"),  # the cost of distilling the same set
    ]
    assert gather([str(kept)], USUAL).figures == found.figures
