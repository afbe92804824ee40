"""Sweeps: one folder per job, a failure costs nobody else, and wandb has one run per job."""

import json
from pathlib import Path

import pytest
from PIL import Image

SHORT = ("steps=2", "evaluation.num_networks=2", "evaluation.epoch_grid=[1]")


def jobs(folder: Path) -> dict[str, dict]:
    """The results of the jobs of a sweep, by folder."""
    return {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/results.json")
    }


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_failing_job_lets_the_others_finish(ddist, launcher: str) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    parallel = {"basic": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}
    done = ddist("-m", *SHORT, *parallel[launcher], "ipc=1,500,2", "hydra.sweep.dir=sweep")
    assert done.code == 1
    assert "Traceback" not in done.out + done.err
    assert "ddist: ipc=500 is larger than the smallest class" in done.err
    assert done.err.splitlines()[-1].startswith("ddist: A job of the sweep failed")
    found = jobs(ddist.folder / "sweep")
    assert {name: results["ipc"] for name, results in found.items()} == {"0": 1, "2": 2}
    for name in ("0", "1", "2"):
        assert (ddist.folder / "sweep" / name / "ddist.log").exists()
    assert "ipc=500" in (ddist.folder / "sweep" / "1" / "ddist.log").read_text()


def test_a_sweep_over_several_devices_says_what_to_do(ddist) -> None:
    done = ddist("-m", "trainer.devices=2", "trainer.accelerator=cpu", "seed=0", *SHORT)
    assert done.code == 1
    assert "-m cannot sweep runs of several devices (trainer.devices=2)" in done.err
    assert not jobs(ddist.folder)


def test_each_job_is_a_wandb_run_of_its_own(ddist, tmp_path: Path) -> None:
    """Offline: there is no key, and nobody to ask."""
    done = ddist(
        "-m", *SHORT, "seed=0,1", "logger=wandb", "hydra.sweep.dir=sweep",
        NETRC=str(tmp_path / "netrc"),
    )  # fmt: skip
    assert done.code == 0, done.err
    names = set()
    for job, results in jobs(ddist.folder / "sweep").items():
        (run,) = (ddist.folder / "sweep" / job / "wandb").glob("offline-run-*")
        names.add(run.name)
        (log,) = run.glob("run-*.wandb")
        assert log.stat().st_size > 0
        (table,) = run.glob("files/media/table/evaluation_*.table.json")
        rows = json.loads(table.read_text())
        assert rows["columns"][:4] == ["trained on", "protocol", "network", "accuracy_mean"]
        accuracies = [row[3] for row in rows["data"]]
        (row,), random = results["evaluation"], results["baselines"]["random"]
        assert accuracies == [row["accuracy_mean"], random["accuracy_mean"]]
        (sizes,) = run.glob("files/media/table/step_sizes_*.table.json")
        assert len(json.loads(sizes.read_text())["data"]) == 10  # epochs
        pictures = list(run.glob("files/media/images/synthetic/*.png"))
        assert len(pictures) == 2
        with Image.open(pictures[0]) as picture:
            assert picture.width > 50
    assert len(names) == 2
