"""task=evaluate as a command: an artifact says by itself how it is to be evaluated."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ddist.artifact.dataset import DistilledDataset


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def run(shared_ddist) -> Path:
    """A run whose settings are not the defaults."""
    return shared_ddist.distil(
        "ipc=2", "init=fixed", "seed=5", "network.widths=[16]", "dataset.size=12"
    )


@pytest.fixture
def evaluated(ddist, run: Path):
    """``evaluated(*arguments)``: what task=evaluate prints and what results.json holds; it has to
    succeed without complaints."""

    def evaluate(*arguments: str) -> tuple[str, dict]:
        artifact = f"artifact={run}/distilled"
        done = ddist("task=evaluate", artifact, "hydra.run.dir=evaluated", *arguments)
        assert (done.code, done.err) == (0, "")
        return done.out, results(ddist.folder / "evaluated")

    return evaluate


def test_an_artifact_brings_its_own_settings(ddist, run: Path) -> None:
    done = ddist("task=evaluate", f"artifact={run}/distilled", "hydra.run.dir=again")
    assert (done.code, done.err) == (0, "")
    first, again = results(run), results(ddist.folder / "again")
    same = ("method", "dataset", "network", "init", "ipc", "steps", "seed", "protocol",
            "evaluation", "baselines")  # fmt: skip
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    assert again["cost"]["distill_seconds"] is None
    assert again["provenance"]["config"]["network"]["widths"] == [16]
    # θ₀ is part of the artifact: another seed draws other baseline images and no other network
    ddist("task=evaluate", f"artifact={run}/distilled", "hydra.run.dir=other", "seed=6")
    other = results(ddist.folder / "other")
    assert other["evaluation"] == first["evaluation"]
    assert other["baselines"] != first["baselines"]


def test_no_recipe_decides_on_threads(ddist, run: Path) -> None:
    """The default method's recipe for the digits, which is composed, takes one."""
    for words, expected in ((), None), (("threads=1",), 1):
        done = ddist("task=evaluate", f"artifact={run}/distilled", "hydra.run.dir=t", *words)
        assert (done.code, done.err) == (0, "")
        assert results(ddist.folder / "t")["provenance"]["config"]["threads"] == expected


def test_under_another_network_and_protocol(evaluated) -> None:
    out, found = evaluated(
        "network=mlp",
        "network.widths=[8]",
        "evaluation=dc2021",
        "evaluation.num_networks=2",
        "evaluation.epochs=2",
    )
    assert [(row["protocol"], row["num_networks"]) for row in found["evaluation"]] == [
        ("dc2021", 2)
    ]
    assert found["provenance"]["config"]["network"]["widths"] == [8]
    assert "dc2021" in out and "replay" not in out


def test_under_several_networks(evaluated) -> None:
    _, found = evaluated("evaluation.networks=[mlp,lenet]", "task.baseline=false")
    assert [row["network"] for row in found["evaluation"]] == ["mlp", "lenet"]
    assert found["baselines"] == {}


def test_across_architectures_under_an_augmenting_protocol(ddist, run: Path, evaluated) -> None:
    _, found = evaluated(
        "evaluation=idc",
        "evaluation.num_networks=2",
        "evaluation.epochs=2",
        "evaluation.networks=[mlp,convnet_bn]",
        "task.baseline=false",
        "compile=false",
    )
    rows = found["evaluation"]
    assert [(row["protocol"], row["network"]) for row in rows] == [
        ("idc", "mlp"), ("idc", "convnet_bn")
    ]  # fmt: skip
    assert all(row["accuracy_ci95"] > 0 for row in rows)
    wrong = ddist("task=evaluate", f"artifact={run}/distilled", "compile=maybe")
    assert wrong.code == 1 and wrong.err.count("\n") == 1
    assert "compile is auto or true or false, not 'maybe'" in wrong.err


def test_an_artifact_from_before_a_setting_was_there(ddist, run: Path) -> None:
    distilled = DistilledDataset.load(run / "distilled")
    config = OmegaConf.create(distilled.config)
    for group, key in (("evaluation", "precision"), ("dataset", "mirror"), ("evaluation", "chunk")):
        del config[group][key]
    replace(distilled, config=OmegaConf.to_yaml(config)).save(ddist.folder / "old")
    done = ddist("task=evaluate", "artifact=old", "hydra.run.dir=again")
    assert (done.code, done.err) == (0, "")
    assert results(ddist.folder / "again")["evaluation"] == results(run)["evaluation"]


def test_in_mixed_precision(evaluated, run: Path, ddist) -> None:
    quick = ("evaluation=dc2021", "evaluation.epochs=5", "task.baseline=false")
    means = [
        evaluated(*quick, f"evaluation.precision={each}")[1]["evaluation"][0]["accuracy_mean"]
        for each in ("32-true", "bf16-mixed")
    ]
    assert means[0] != means[1] and means[0] == pytest.approx(means[1], abs=0.02)
    for precision, expected in (
        ("half", "evaluation.precision is one of 32-true, bf16-mixed, not 'half'"),
        ("bf16-mixed", "replayed in 32-true only"),
    ):
        words = (f"evaluation.precision={precision}", "evaluation=replay")
        wrong = ddist("task=evaluate", f"artifact={run}/distilled", *words)
        assert wrong.code == 1 and wrong.err.count("\n") == 1
        assert expected in wrong.err


def test_what_cannot_be_evaluated(ddist, run: Path) -> None:
    for arguments, expected in (
        ([f"artifact={run}"], "this is a run's folder; its dataset is"),
        ([f"artifact={run}/distilled", "dataset.size=10"], "images (1, 12, 12) of 10 classes, but"),
        ([f"artifact={run}/distilled", f"hydra.run.dir={run}"], "is the folder of a distillation"),
    ):
        done = ddist("task=evaluate", *arguments)
        assert done.code == 1
        assert expected in done.err and done.err.count("\n") == 1
    torn = ddist.folder / "torn"
    shutil.copytree(run / "distilled", torn)
    (torn / "data.safetensors").write_bytes((torn / "data.safetensors").read_bytes()[:-7])
    done = ddist("task=evaluate", "artifact=torn")
    assert done.code == 1
    assert "Could not load torn: data.safetensors is damaged" in done.err


def test_a_recipe_of_the_default_method_keeps_its_table(ddist, data_dir) -> None:
    """method=dd, which no word chose, has a recipe for MNIST that other groups read."""
    quick = ("dataset=mnist", "dataset.subset=20", "task.baseline=false", f"paths.data={data_dir}")
    knn = ("method=random", "evaluation=knn", "evaluation.tuning_images=50")
    for words in ((*knn, "hydra.run.dir=run"), ("task=evaluate", "artifact=run/distilled")):
        done = ddist(*words, *quick)
        assert (done.code, done.err) == (0, ""), done.out
