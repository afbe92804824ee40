"""Random real images in task=compare: their column over seeds, and the control of the robust
scores, in which they stand in the place of the distilled ones."""

import csv
import io
import statistics
from collections.abc import Callable
from math import e, exp
from pathlib import Path
from typing import Any

import pytest

from ddist.compare.gather import gather
from ddist.compare.robust import robust_scores
from ddist.compare.rows import ComparedRow, make_rows
from ddist.compare.tables import protocol_csv, protocol_sheet

NETWORKS = {"convnet": {"width": 128, "depth": 3}}
RANDOM = "baselines.random"
USUAL = {"dc2021_dsa": {"name": "dc2021_dsa", "epochs": 1000, "num_networks": 5, "mix": None,
                        "augment": {"strategy": ["flip"]}, "labels": "own"}}  # fmt: skip


def rows_of(runs: Path) -> dict[str, list[ComparedRow]]:
    return make_rows(gather([str(runs)], {}).figures, NETWORKS, 2.0, 2.0)


def test_their_column_is_over_seeds(write: Callable[..., Path], tmp_path: Path) -> None:
    """Mean and spread of the seeds' own means, not of one seed, nor of the distilled images."""
    randoms = (0.50, 0.58, 0.63)
    for seed, mean in enumerate(randoms):
        changes = {f"{RANDOM}.accuracy_mean": mean, f"{RANDOM}.accuracy_std": 0.3}
        write(f"s{seed}", changes, accuracy=0.9 + seed / 100, seed=seed)
    ((name, (row,)),) = rows_of(tmp_path / "runs").items()
    assert row.random is not None
    mean, std = statistics.mean(randoms), statistics.stdev(randoms)
    assert (row.random.mean, row.random.std) == (pytest.approx(mean), pytest.approx(std))
    assert row.random.num_networks == 15
    (cells,) = protocol_sheet(name, [row]).rows
    assert cells["random %"] == f"{100 * mean:.2f} ± {100 * std:.2f}"
    (written,) = csv.DictReader(io.StringIO(protocol_csv([row])))
    assert float(written["random_mean"]) == pytest.approx(mean, abs=1e-4)
    assert float(written["random_std"]) == pytest.approx(std, abs=1e-4)


def test_seeds_without_them_do_not_count(write: Callable[..., Path], tmp_path: Path) -> None:
    write("s0", {f"{RANDOM}.accuracy_mean": 0.5, f"{RANDOM}.accuracy_std": 0.3}, seed=0)
    write("s1", {"baselines": {}}, seed=1)
    ((row,),) = rows_of(tmp_path / "runs").values()
    assert len(row.figures) == 2 and row.random is not None
    assert (row.random.mean, row.random.std, row.random.num_networks) == (0.5, 0.3, 5)


def test_they_are_those_of_the_same_network_and_protocol(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    row: dict[str, Any] = {"protocol": "dc2021_dsa", "accuracy_std": 0.1, "accuracy_ci95": 0.1,
                           "num_networks": 5}  # fmt: skip
    write("a", {
        "evaluation": [row | {"network": "convnet", "accuracy_mean": 0.9},
                       row | {"network": "mlp", "accuracy_mean": 0.7}],
        "baselines": {
            "no_adaptation": row | {"network": "mlp", "accuracy_mean": 0.1},
            "random": row | {"network": "convnet", "accuracy_mean": 0.6},
            "random:mlp": row | {"network": "mlp", "accuracy_mean": 0.4},
        },
    })  # fmt: skip
    (rows,) = rows_of(tmp_path / "runs").values()
    randoms = {row.first.network: row.random and row.random.mean for row in rows}
    assert randoms == {"convnet": 0.6, "mlp": 0.4}


def scored(x: float) -> float:
    """The paper's map of an improvement to [0, 1]."""
    return (exp(x) - exp(-1)) / (e - exp(-1))


def test_the_control_has_random_images_in_the_sets_place(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    """Own labels and hard ones, augmented and plain, of one set: what it gains over random images
    is nothing for these themselves, and hard labels on them lose what they lose."""
    artifact = str(tmp_path / "set")
    for name, hard, strategy, syn, random in (
        ("soft", "own", ["flip"], 0.90, 0.60),
        ("hard", "hard", ["flip"], 0.70, 0.55),
        ("plain", "own", [], 0.80, 0.50),
    ):
        settings = "provenance.config"
        write(name, {
            f"{settings}.artifact": artifact, f"{settings}.synthetic.labels": "soft",
            f"{settings}.evaluation.labels": hard,
            f"{settings}.evaluation.augment": {"strategy": strategy},
            f"{RANDOM}.accuracy_mean": random,
        }, accuracy=syn)  # fmt: skip
    figures = gather([str(tmp_path / "runs")], USUAL).figures
    assert len(figures) == 3
    (found,) = robust_scores(figures, 0.99, NETWORKS)
    assert found.label == pytest.approx(scored(0.5 * (0.9 - 0.6) - 0.5 * (0.99 - 0.7)))
    assert found.label_control == pytest.approx(scored(-0.5 * (0.99 - 0.55)))
    assert found.augmentation == pytest.approx(scored(0.5 * (0.9 - 0.6) + 0.5 * (0.8 - 0.5)))
    assert found.augmentation_control == pytest.approx(scored(0))
