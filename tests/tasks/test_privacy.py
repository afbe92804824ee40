"""task=privacy as a command, and attacks on evaluated networks."""

import json
from pathlib import Path

import pytest

QUICK = ("evaluation=dc2021", "evaluation.num_networks=2", "evaluation.epochs=200",
         "evaluation.lr=0.3", "network.widths=[64]")  # fmt: skip


@pytest.fixture(scope="module")
def run(shared_ddist) -> Path:
    return shared_ddist.distil("method=random", "ipc=2", "seed=3")


def test_a_memorised_set_is_found(run: Path, shared_ddist) -> None:
    words = ("task=privacy", f"artifact={run}/distilled", *QUICK, "task.images=300")
    done = shared_ddist(*words, "hydra.run.dir=private")
    assert (done.code, done.err) == (0, ""), done.out
    assert "no guarantee" in done.out
    folder = shared_ddist.folder / "private"
    found = json.loads((folder / "results.json").read_text())
    assert found["task"] == "privacy" and found["images"] == 300
    for measured in found["privacy"].values():  # both are real images
        nearby, members = measured["nearest"], measured["membership"]
        assert nearby["closest"] == pytest.approx(0, abs=1e-6)
        assert nearby["nearest_is_train"] == 1 > nearby["by_chance"] == pytest.approx(1352 / 1797)
        assert members["its own"]["accuracy_members"] == 1
        assert members["its own"]["auc"] > 0.8
        assert members["training"]["auc"] == pytest.approx(0.5, abs=0.07)
    assert "AUC" in (folder / "privacy.md").read_text()


def test_protocols_without_networks_have_no_members(run: Path, shared_ddist) -> None:
    words = ("task=privacy", f"artifact={run}/distilled", "evaluation=knn")
    done = shared_ddist(*words)
    assert done.code == 1 and "task=privacy looks at trained networks" in done.err


def test_attacks_are_columns(run: Path, shared_ddist) -> None:
    words = ("task=evaluate", f"artifact={run}/distilled", *QUICK)
    attacks = ("evaluation.robust.attacks=[fgsm]", "evaluation.robust.images=100")
    done = shared_ddist(*words, *attacks, "hydra.run.dir=attacked")
    assert (done.code, done.err) == (0, "") and "fgsm %" in done.out
    found = json.loads((shared_ddist.folder / "attacked" / "results.json").read_text())
    for row in (found["evaluation"][0], found["baselines"]["random"]):
        assert row["robust"]["clean"] > row["robust"]["fgsm"]
    for wrong, expected in (
        ("evaluation.robust.attacks=[cw]", "evaluation.robust.attacks is"),
        ("evaluation.robust.eps=8", "evaluation.robust.eps is"),
    ):
        refused = shared_ddist(*words, wrong)
        assert refused.code == 1 and expected in refused.err and refused.err.count("\n") == 1
