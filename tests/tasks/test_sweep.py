"""Sweeps: one folder per job, a failure costs nobody else, a table at the end, going on after a
kill, and wandb has one run per job."""

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from ddist import DistilledDataset
from ddist.compare.sweep import summarize
from ddist.tasks.usual import usual_protocols
from tests.conftest import EVALUATED

KILLED_IN_THE_SECOND_JOB = """
import os
from pathlib import Path
from ddist.methods import Method
step = Method.training_step
def killed(self, *args):
    if self.global_step == 2 and list(Path("sweep").glob("*/results.json")):
        os.kill(os.getpid(), 9)
    return step(self, *args)
Method.training_step = killed
"""
SHORT = ("steps=2", *EVALUATED)


def jobs(folder: Path) -> dict[str, dict]:
    """The results of the jobs of a sweep, by folder."""
    return {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/results.json")
    }


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_a_failing_job_lets_the_others_finish(ddist, launcher: str) -> None:
    parallel = {
        "basic": [],
        "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        "submitit_local": ["hydra/launcher=submitit_local"],
    }
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    done = ddist(
        "-m",
        *SHORT,
        *parallel[launcher],
        "ipc=1,500,2",
        "synthetic.start=real",
        "hydra.sweep.dir=sweep",
    )
    assert done.code == 1
    assert "Traceback" not in done.out + done.err
    why = "500 different real images of the class 0 are needed, but digits has"
    if launcher != "submitit_local":  # whose jobs have logs of their own
        assert f"ddist: {why}" in done.err
    assert done.err.splitlines()[-1].startswith("ddist: A job of the sweep failed")
    found = jobs(ddist.folder / "sweep")
    names = {name: results["ipc"] for name, results in found.items()}
    assert names == {"ipc-1": 1, "ipc-2": 2}
    for name in ("ipc-1", "ipc-2", "ipc-500"):
        assert (ddist.folder / "sweep" / name / "ddist.log").exists()
    assert why in (ddist.folder / "sweep" / "ipc-500" / "ddist.log").read_text()
    assert f"Failed: ipc=500: {why}" in done.out
    assert f"Failed: ipc=500: {why}" in (ddist.folder / "sweep" / "sweep.md").read_text()
    summary = summarize(ddist.folder / "sweep", usual_protocols)
    assert list(summary.failed) == ["ipc=500"]
    (rows,) = summary.tables.values()
    assert [row.accuracy.mean for row in rows] == [
        found[name]["evaluation"][0]["accuracy_mean"] for name in ("ipc-1", "ipc-2")
    ]


STOPPED_IN_THE_FIRST_STEP = """
import os
from ddist.methods import Method
step = Method.training_step
def stopped(self, *args):
    os.kill(os.getpid(), 15)
    return step(self, *args)
Method.training_step = stopped
"""
# The process that waits for joblib's.
STOPPED_WAITING = """
import os, joblib
joblib.Parallel.__call__ = lambda *_: os.kill(os.getpid(), 2)
"""


def test_a_stopped_sweep_says_how_it_goes_on(ddist) -> None:
    sweep = ["-m", *SHORT, "seed=0,1", "hydra.sweep.dir=sweep", "task.baseline=false"]
    again = f"the same command with hydra.sweep.dir={ddist.folder / 'sweep'} "
    stopped = ddist(*sweep, before=STOPPED_IN_THE_FIRST_STEP)
    assert (stopped.code, stopped.err) == (143, "")
    assert f"seed-0/distilled; {again}goes on from there." in stopped.out
    assert "hydra.run.dir" not in stopped.out
    waiting = ddist(*sweep, "hydra/launcher=joblib", before=STOPPED_WAITING)
    assert (waiting.code, waiting.err.count("\n")) == (130, 1)
    assert waiting.err.startswith("ddist: Stopped by SIGINT: the jobs so far are in ")
    assert waiting.err.endswith(f"{again}does what is missing.\n")
    assert ddist(*sweep).code == 0
    assert sorted(jobs(ddist.folder / "sweep")) == ["seed-0", "seed-1"]


def test_a_killed_sweep_goes_on_where_it_was(ddist) -> None:
    sweep = ["-m", *SHORT, "steps=4", "seed=0,1,2", "hydra.sweep.dir=sweep",
             "task.baseline=false", "callbacks.checkpoint.seconds=0"]  # fmt: skip
    assert ddist(*sweep, before=KILLED_IN_THE_SECOND_JOB).code == -signal.SIGKILL
    folder = ddist.folder / "sweep"
    assert list(jobs(folder)) == ["seed-0"]
    assert list(summarize(folder, usual_protocols).failed.values()) == ["It did not finish."]
    times = (folder / "seed-0" / "results.json").stat().st_mtime_ns
    done = ddist(*sweep)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("Finished before: ") == done.out.count("Going on from ") == 1
    assert sorted(jobs(folder)) == ["seed-0", "seed-1", "seed-2"]
    assert (folder / "seed-0" / "results.json").stat().st_mtime_ns == times
    assert "(6, 3 seeds)" in done.out and not summarize(folder, usual_protocols).failed
    whole = ddist.distil("steps=4", "seed=1", "task.baseline=false", folder="whole")
    one, other = (DistilledDataset.load(f / "distilled") for f in (whole, folder / "seed-1"))
    assert torch.equal(one.images, other.images)
    # evaluated again where that is asked for in another way, without distilling again
    again = ddist(*sweep, "evaluation.epoch_grid=[2]", "seed=choice(0)")
    assert again.code == 0, again.err
    assert "Finished before" not in again.out and again.out.count("Going on from ") == 1
    assert (folder / "seed-0" / "results.json").stat().st_mtime_ns > times
    # other settings of what is learned are never mixed in
    other = ("method.lr.images=0.5", "steps=3", "seed=choice(0)")
    mixed = ddist(*sweep, *other)
    assert mixed.code == 1 and "choose another hydra.sweep.dir" in mixed.err
    # but where that is asked for
    over = ddist(*sweep, *other, "resume=false")
    assert (over.code, over.err) == (0, "")
    assert DistilledDataset.load(folder / "seed-0" / "distilled").meta["steps"] == 3


def test_a_preset_is_a_sweep_and_rates_are_judged_on_held_out_images(ddist) -> None:
    done = ddist("sweep=lr", *SHORT, "method.lr.images=0.01,0.1", "hydra.sweep.dir=sweep")
    assert done.code == 0, done.err
    found = jobs(ddist.folder / "sweep")
    assert sorted(found) == ["method.lr.images-0.01", "method.lr.images-0.1"]
    values = {}
    for results in found.values():
        assert results["selection"]["name"] == "validation_accuracy"
        config = results["provenance"]["config"]
        assert config["dataset"]["validation"] == 0.2
        values[config["method"]["lr"]["images"]] = results["selection"]["value"]
    best = max(values, key=lambda rate: values[rate])
    assert f"): method.lr.images={best}." in done.out


@pytest.mark.parametrize("preset", ["lr", "search"])
def test_a_preset_for_other_methods_is_refused(ddist, preset: str) -> None:
    done = ddist(f"sweep={preset}", "method=kmeans")
    assert done.code == 1
    assert done.err.startswith("ddist: method=kmeans has no method.lr.images, around which")
    assert done.err.count("\n") == 1 and not list(ddist.folder.glob("outputs/*"))


def test_a_search_minimises_and_goes_on(ddist) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["sweep=search", *SHORT, "hydra.sweeper.n_trials=3", "task.baseline=false",
              "hydra.sweep.dir=sweep"]  # fmt: skip
    assert ddist(*search).code == 0
    file = ddist.folder / "sweep" / "optimization_results.yaml"
    best = yaml.safe_load(file.read_text())
    found = jobs(ddist.folder / "sweep")
    assert sorted(found) == ["0", "1", "2"]
    assert best["best_value"] == -max(each["selection"]["value"] for each in found.values())
    file.unlink()
    done = ddist(*search)
    assert done.code == 0 and done.out.count("Finished before: ") == 3
    assert yaml.safe_load(file.read_text()) == best
    wrong = ddist(*search, "hydra.sweeper.direction=maximize")
    assert wrong.code == 1 and wrong.err.count("\n") == 1
    assert "leave hydra.sweeper.direction=minimize" in wrong.err


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
