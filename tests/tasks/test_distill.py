"""task=distill as a command: what it leaves, and that stopping it changes nothing."""

import csv
import json
import signal
import time
from pathlib import Path

import pytest
import torch

from ddist import DistilledDataset
from tests.conftest import EVALUATED, QUICK, TUNED

CONTRACT = {
    "schema", "method", "dataset", "network", "init", "ipc", "steps", "seed", "protocol",
    "evaluation", "baselines", "cost", "provenance",
}  # fmt: skip
ROW = {"protocol", "network", "accuracy_mean", "accuracy_std", "accuracy_ci95", "num_networks"}
COST = {
    "distill_seconds", "evaluate_seconds", "peak_memory_bytes", "steps_per_second",
    "artifact_bytes",
}  # fmt: skip


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def learned(folder: Path) -> list[torch.Tensor]:
    distilled = DistilledDataset.load(folder / "distilled")
    assert distilled.step_sizes is not None
    return [distilled.images, distilled.labels, distilled.step_sizes]


def same(a: Path, b: Path) -> bool:
    """Whether two runs learned the same, bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(learned(a), learned(b), strict=True))


def signal_at(step: int, number: signal.Signals) -> str:
    """Code that sends the process a signal when it computes this outer step, counted from 0."""
    return f"""
import os
from ddist.methods import Method
step = Method.training_step
def interrupted(self, *args):
    if self.global_step == {step}:
        os.kill(os.getpid(), {int(number)})
    return step(self, *args)
Method.training_step = interrupted
"""


@pytest.fixture(scope="module")
def whole(shared_ddist) -> Path:
    """A run of 8 steps that nothing stopped."""
    return shared_ddist.distil("steps=8")


def test_what_a_run_leaves(whole: Path) -> None:
    files = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert files == {
        "results.json", "report.html", "confusion.npz", "settings.json", "metrics.csv",
        "ddist.log", "checkpoints/last.ckpt",
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml",
        "distilled/data.safetensors", "distilled/meta.json", "distilled/config.yaml",
        "distilled/grid.png", "distilled/README.md",
        *[f"images/step_{step:06d}.png" for step in (2, 4, 6, 8)],
    }  # fmt: skip
    with (whole / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "7"
    assert (
        float(row["step_size/min"]) <= float(row["step_size/mean"]) <= float(row["step_size/max"])
    )
    assert {"distill/loss", "distill/accuracy"} <= row.keys()


def test_results_keep_the_contract(whole: Path) -> None:
    found = results(whole)
    assert found.keys() - {"selection"} == CONTRACT  # which a sweep looks at
    expected = {"schema": 1, "method": "dd", "dataset": "digits", "network": "mlp", "ipc": 1,
                "init": "random", "steps": 8, "seed": 0, "protocol": "replay"}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    (row,) = found["evaluation"]
    for each in (row, found["baselines"]["random"]):
        assert each.keys() - {"chosen"} == ROW
        assert 0 <= each["accuracy_mean"] <= 1
        assert each["num_networks"] == 2
    assert found["cost"].keys() == COST
    assert found["cost"]["steps_per_second"] == pytest.approx(8 / found["cost"]["distill_seconds"])
    assert found["cost"]["artifact_bytes"] == DistilledDataset.load(whole / "distilled").num_bytes
    origin = {"command", "commit", "machine"}
    assert found["provenance"].keys() == {"ddist", "torch", "signature", "config"} | origin
    assert found["provenance"]["command"].startswith("ddist ")
    assert "steps=8" in found["provenance"]["command"]
    assert "thread" in found["provenance"]["machine"]
    assert found["provenance"]["config"]["method"]["student_epochs"] == 10
    meta = json.loads((whole / "distilled" / "meta.json").read_text())
    assert meta["results"] == found


def test_the_same_command_gives_the_same_artifact(ddist, whole: Path) -> None:
    again = ddist.distil("steps=8", folder="again")
    assert same(whole, again)
    assert results(whole)["evaluation"] == results(again)["evaluation"]
    signatures = [results(folder)["provenance"]["signature"] for folder in (whole, again)]
    assert signatures[0] == signatures[1]
    assert not same(whole, ddist.distil("steps=8", "seed=1", folder="other"))


def test_killed_twice_it_ends_with_the_same_bits(ddist, whole: Path) -> None:
    run = ["steps=8", *EVALUATED, "hydra.run.dir=killed", "callbacks.checkpoint.seconds=0"]
    for step in (3, 6):
        killed = ddist(*run, before=signal_at(step, signal.SIGKILL))
        assert killed.code == -signal.SIGKILL
        assert not (ddist.folder / "killed" / "results.json").exists()
    done = ddist(*run)
    assert (done.code, done.err) == (0, "")
    assert "Going on from" in done.out
    killed = ddist.folder / "killed"
    assert same(whole, killed)
    assert results(killed)["steps"] == 8
    assert (killed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_all_there_is_and_the_run_goes_on(
    ddist, whole: Path, number: signal.Signals, code: int
) -> None:
    run = ["steps=8", *EVALUATED, "hydra.run.dir=run"]
    stopped = ddist(*run, before=signal_at(4, number))
    assert stopped.code == code
    assert stopped.err == ""
    assert "Stopped at step 5" in stopped.out and "goes on from there" in stopped.out
    run_folder = ddist.folder / "run"
    assert (run_folder / "checkpoints" / "last.ckpt").exists()
    assert json.loads((run_folder / "distilled" / "meta.json").read_text())["steps"] == 5
    assert not same(run_folder, whole)
    assert ddist(*run).code == 0
    assert same(run_folder, whole)


def test_two_signals_stop_at_once(ddist) -> None:
    twice = signal_at(2, signal.SIGINT).replace("os.kill(", "for _ in 'ab': os.kill(")
    stopped = ddist("steps=8", before=twice)
    assert stopped.code == 130
    assert stopped.err.startswith("ddist: Stopped by SIGINT: nothing was finished yet")
    assert stopped.err.count("\n") == 1


POOL = ("init=pretrained", "init.num_networks=2", "init.num_held_out=2", "init.epochs=3",
        "network=convnet", "network.width=4", "network.depth=1", "paths.cache=cache")  # fmt: skip
# A network at a time, and a signal after the first of the four is kept.
SIGNAL_IN_THE_POOL = """
import os
from ddist.init.pretrained import Pretrained
train = Pretrained._fit
def interrupted(self, network, start, members, *args):
    if members.start == 1:
        os.kill(os.getpid(), 15)
    return train(self, network, start, members, *args)
Pretrained._fit = interrupted
"""


def test_a_signal_before_the_first_step_keeps_what_is_trained_and_the_run_goes_on(ddist) -> None:
    run = [*QUICK, *POOL]
    whole = ddist.distil(*run, "paths.cache=other", folder="whole")
    stopped = ddist(*run, "hydra.run.dir=run", before=SIGNAL_IN_THE_POOL)
    assert (stopped.code, stopped.err.count("\n")) == (143, 1)
    assert stopped.err.startswith("ddist: Stopped by SIGTERM: 1 of 4 pre-trained networks are kept")
    assert "and the same command trains the rest." in stopped.err
    (pool,) = (ddist.folder / "cache" / "pool").glob("*/*.safetensors")
    assert pool.name == "0000-0001.safetensors"
    done = ddist(*run, "hydra.run.dir=run")
    assert (done.code, done.err) == (0, "")
    assert same(ddist.folder / "run", whole)
    assert done.out.index("pre-training: 12/12 epochs") < done.out.index("step 1/3")
    assert not pool.parent.exists()  # all are in one file


def test_a_step_that_takes_too_long_is_left(ddist) -> None:
    slow = signal_at(1, signal.SIGTERM).replace("import os", "import os, time")
    slow = slow.replace("15)", "15); time.sleep(30)")  # in this step alone
    run = ["steps=3", "hydra.run.dir=run", "callbacks.interrupt.patience=0.2"]
    begun = time.monotonic()
    stopped = ddist(*run, "callbacks.checkpoint.seconds=0", before=slow)
    assert stopped.code == 143 and time.monotonic() - begun < 30
    said = "ddist: Stopped by SIGTERM: the outer steps up to the last checkpoint are in "
    assert stopped.err.startswith(said)
    assert "hydra.run.dir=" in stopped.err and stopped.err.endswith("run goes on.\n")


def test_more_steps_go_on_and_end_as_all_at_once(ddist) -> None:
    """Of a method whose schedule knows nothing of their number."""
    constant = ("method.scheduler=null", *EVALUATED)
    whole = ddist.distil(*constant, "steps=8", folder="whole")
    ddist.distil(*constant, "steps=4")
    more = ddist.distil(*constant, "steps=8")
    assert same(more, whole)
    assert results(more)["steps"] == 8
    fewer = ddist(*constant, "steps=4", "hydra.run.dir=run")
    assert fewer.code == 1 and "holds a run of 8 steps, and steps=4 are fewer: choose" in fewer.err
    other = ddist(*constant, "steps=9", "seed=1", "hydra.run.dir=run")
    assert other.code == 1 and "another configuration (seed: 0 -> 1)" in other.err


def test_more_steps_of_a_schedule_that_follows_them_are_refused_or_keep_it(ddist) -> None:
    ddist.distil("steps=10")
    done = ddist("steps=20", "hydra.run.dir=run")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "10 steps whose schedule follows their number" in done.err
    assert "add method.scheduler.step_size=1 to go on with the schedule as it was" in done.err
    kept = ddist.distil("steps=20", "method.scheduler.step_size=1")
    assert same(kept, ddist.distil("steps=20", "method.scheduler.step_size=1", folder="whole"))


def test_an_earlier_set_is_a_start(ddist) -> None:
    first = ddist.distil("steps=3", folder="first")
    start = f"synthetic.start={first}"
    done = ddist(*QUICK, start, "method.lr.images=0", "method.lr.step_sizes=0", "hydra.run.dir=run")
    assert (done.code, done.err) == (0, "")
    assert f"Starting from the images and step sizes of {first}." in done.out
    for a, b in zip(learned(first), learned(ddist.folder / "run"), strict=True):
        torch.testing.assert_close(a, b)
    refused = ddist("method=kmeans", start)
    assert refused.code == 1 and "cannot start from an earlier set" in refused.err


def test_a_budget_stops_evaluates_and_can_be_raised(ddist) -> None:
    long = ["steps=1000000", "method.scheduler=null"]
    folder = ddist.distil(*long, "budget=1s")
    first = results(folder)
    assert 0 < first["cost"]["distill_seconds"] < 5
    assert 0 < first["steps"] < 1000000
    ddist.distil(*long, "budget=2s")
    assert results(folder)["steps"] > first["steps"]
    assert results(folder)["cost"]["distill_seconds"] < 6


def test_a_folder_of_another_configuration_is_refused(ddist) -> None:
    folder = ddist.distil("steps=2")
    before = learned(folder)
    done = ddist("steps=2", "seed=1", "hydra.run.dir=run")
    assert done.code == 1
    assert "holds a run of another configuration (seed: 0 -> 1)" in done.err
    assert "resume=false" in done.err
    assert all(torch.equal(a, b) for a, b in zip(before, learned(folder), strict=True))
    # what is evaluated, and how, may differ
    ddist.distil("steps=2", "evaluation.num_networks=3")
    assert results(folder)["evaluation"][0]["num_networks"] == 3
    ddist.distil("steps=2", "seed=1", "resume=false")
    assert results(folder)["seed"] == 1


def test_starting_over_forgets_the_old_checkpoint_at_once(ddist) -> None:
    folder = ddist.distil("steps=2")
    killed = ddist(
        "steps=3", "hydra.run.dir=run", "resume=false", before=signal_at(0, signal.SIGKILL)
    )
    assert killed.code == -signal.SIGKILL
    assert not (folder / "checkpoints" / "last.ckpt").exists()
    assert not (folder / "results.json").exists()


def test_an_ipc_without_published_settings_says_whose_it_takes(ddist) -> None:
    recipe = ddist.folder / "conf" / "recipe" / "kmeans" / "digits.yaml"
    recipe.parent.mkdir(parents=True)
    table = "[{ipc: 1, grid: [1]}, {ipc: 10, grid: [1, 3]}]"
    recipe.write_text(
        f"# @package _global_\nby_ipc: {table}\nevaluation: {{epoch_grid: '${{row:grid}}'}}\n"
    )
    run = ["--config-dir=conf", "method=kmeans", "evaluation.num_networks=2", *TUNED,
           "task.baseline=false"]  # fmt: skip
    for ipc, said in ((10, False), (12, True)):
        done = ddist(*run, f"ipc={ipc}", f"hydra.run.dir=ipc{ipc}")
        assert (done.code, done.err) == (0, "")
        line = f"No published settings for ipc={ipc}: those of ipc=10 are taken."
        assert (line in done.out) == said
        config = results(ddist.folder / f"ipc{ipc}")["provenance"]["config"]
        assert config["evaluation"]["epoch_grid"] == [1, 3]
    own = ddist(*run, "ipc=12", "evaluation.epoch_grid=[2]", "hydra.run.dir=own")
    assert "No published settings" not in own.out


RETURNED = """
import ddist.tasks.distill as task
run = task.run
def said(*args, **kwargs):
    value = run(*args, **kwargs)
    print("returned", value)
    return value
task.run = said
"""


def test_a_search_minimises_what_is_not_the_test_figure(ddist) -> None:
    """The negated validation accuracy, or the outer loss where nothing is held out."""
    found = {}
    for name, extra in (("loss", []), ("validation", ["dataset.validation=0.2"])):
        run = ["steps=2", *EVALUATED, *extra]
        done = ddist(*run, f"hydra.run.dir={name}", before=RETURNED)
        found[name] = float(done.out.split("returned ")[1])
    with (ddist.folder / "loss" / "metrics.csv").open() as file:
        assert found["loss"] == pytest.approx(float([*csv.DictReader(file)][-1]["distill/loss"]))
    assert -1 <= found["validation"] <= 0
    assert (
        -found["validation"]
        != results(ddist.folder / "validation")["evaluation"][0]["accuracy_mean"]
    )


def test_mixed_precision(ddist) -> None:
    # a mistake before it does not spoil the folder
    refused = ddist("synthetic.start=real", "ipc=500", "hydra.run.dir=run")
    assert refused.code == 1 and "500 different real images" in refused.err
    folder = ddist.distil("trainer.precision=bf16-mixed")
    assert DistilledDataset.load(folder / "distilled").images.dtype == torch.float32


def test_a_baseline_needs_no_training(ddist) -> None:
    folder = ddist.distil("method=average", "ipc=2")
    found = results(folder)
    assert (found["method"], found["steps"]) == ("average", 0)
    assert found["cost"]["steps_per_second"] is None
    assert not (folder / "checkpoints").exists()
