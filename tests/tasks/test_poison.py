"""objective=poison as a command, on the bundled digits."""

import json
from pathlib import Path
from typing import Any

import pytest

from ddist import DistilledDataset

POISON = (
    "objective=poison", "objective.attacked=2", "objective.target=7", "init=pretrained",
    "init.num_networks=6", "init.num_held_out=4", "init.epochs=25", "init.batch_size=64",
    "init.lr=0.01", "paths.cache=cache",
)  # fmt: skip
ONE_STEP = ("method.student_steps=1", "method.student_epochs=1", "ipc=5")


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_one_step_turns_one_class_and_leaves_the_rest(shared_ddist: Any) -> None:
    done = shared_ddist(*POISON, *ONE_STEP, "steps=300", "hydra.run.dir=run")
    assert (done.code, done.err) == (0, "")
    folder = shared_ddist.folder / "run"
    found = results(folder)
    course = found["evaluation"][0]["course"]
    assert course["steps"] == [0, 1]
    before, after = ({k: v[i] for k, v in course.items()} for i in (0, 1))
    assert before["attacked_accuracy_mean"] > 0.9 and before["attacked_as_target_mean"] < 0.05
    assert after["attacked_accuracy_mean"] < 0.2 and after["attacked_as_target_mean"] > 0.7
    assert after["others_accuracy_mean"] > before["others_accuracy_mean"] - 0.05
    random = found["baselines"]["random"]
    assert random["chosen"]["epochs"] == 1 and random["course"]["steps"] == [0, 1]
    assert random["course"]["accuracy_mean"][0] == course["accuracy_mean"][0]  # the same networks
    assert random["course"]["attacked_as_target_mean"][1] < after["attacked_as_target_mean"]
    assert (folder / "course.png").read_bytes().startswith(b"\x89PNG")
    assert "Step by step" in done.out and "random real images" in done.out
    labels = DistilledDataset.load(folder / "distilled").labels
    assert (labels != 2).all() and (labels == 7).sum() == 2 * (labels == 1).sum()  # 2 is called 7
    card = (folder / "distilled" / "README.md").read_text()
    assert "| objective | poison, attacked=2, target=7 |" in card


def test_an_artifact_brings_its_objective(shared_ddist: Any) -> None:
    done = shared_ddist("task=evaluate", "artifact=run/distilled", "hydra.run.dir=again")
    assert (done.code, done.err) == (0, "")
    first, again = (results(shared_ddist.folder / name) for name in ("run", "again"))
    assert again["evaluation"] == first["evaluation"]
    assert again["baselines"] == first["baselines"]


@pytest.mark.parametrize("method", ["random", "average", "optimized_random"])
def test_wrongly_labelled_real_images(shared_ddist: Any, method: str) -> None:
    few = ("method.num_candidates=3",) if method == "optimized_random" else ()
    done = shared_ddist(*POISON, f"method={method}", "ipc=5", "method.student_steps=1", *few,
                        "evaluation.epoch_grid=[1]", f"hydra.run.dir={method}",
                        "task.baseline=false")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    distilled = DistilledDataset.load(shared_ddist.folder / method / "distilled")
    assert distilled.labels.bincount(minlength=10).tolist() == [5, 5, 0, 5, 5, 5, 5, 10, 5, 5]
    assert results(shared_ddist.folder / method)["evaluation"][0]["course"]["steps"] == [0, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("objective.attacked=10", "objective.attacked=10 is none of the 10 classes: choose one"),
        ("objective.attacked=7", "objective.attacked and objective.target are both 7"),
        ("objective.target=seven", "objective.target is a whole number of at least 0, not 'seven'"),
        ("init=random", "This objective is about trained networks: choose init=pretrained."),
        ("method=dm", "This method always learns to classify: leave objective out"),
        ("evaluation=dc2021", "is followed step by step: choose evaluation=replay"),
    ],
)
def test_mistakes_are_one_sentence(ddist: Any, words: str, expected: str) -> None:
    name = words.split("=")[0]
    kept = [each for each in POISON if not each.startswith((f"{name}=", f"{name}."))]
    done = ddist(*kept, words)
    assert done.code == 1 and expected in done.err and done.err.count("\n") == 1
    assert not (ddist.folder / "cache").exists()
