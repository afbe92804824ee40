"""task=rank as a command: rankings by a set, by random images and by all of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ddist.artifact.dataset import DistilledDataset

SPACE = ("~task.space.network", "+task.space.network.widths=[[2],[4],[8],[32]]")
QUICK = (
    "task=rank", "task.num_networks=1", "evaluation=dc2021", "evaluation.schedule=constant",
    "evaluation.lr=0.1", "artifact=set",
)  # fmt: skip


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def ranked(shared_ddist) -> Path:
    """The folder of a ranking by a set of all training images that is trained on for as long as all
    images are; ``set`` beside it is that set."""
    run = shared_ddist.distil("method=random", "ipc=1")
    one = DistilledDataset.load(run / "distilled")
    everything(one, shared_ddist.folder / "set")
    done = shared_ddist(
        *QUICK, *SPACE, "task.epochs=4", "evaluation.epochs=4", "task.top=[3]",
        "hydra.run.dir=ranked",
    )  # fmt: skip
    assert (done.code, done.err) == (0, ""), done.out
    assert "distilled images" in done.out and "stopped early" in done.out
    return shared_ddist.folder / "ranked"


def everything(one: DistilledDataset, folder: Path) -> None:
    """Write the set of all training images of the digits, described as ``one`` is."""
    from omegaconf import OmegaConf

    from ddist.tasks.build import build_data
    from ddist.tasks.config import register_resolvers

    register_resolvers()
    data = build_data(OmegaConf.create(one.config))
    replace(
        one,
        images=data.normalization(data.train.x),
        labels=data.train.y,
        step_index=None,
        meta={**one.meta, "ipc": min(data.train.counts)},
    ).save(folder)


def test_a_set_of_all_images_ranks_perfectly(ranked: Path) -> None:
    found = results(ranked)
    assert len(found["settings"]) == 4
    for one in found["settings"]:
        assert one["accuracy"]["distilled"] == one["accuracy"]["all"]
    by_set = [one for one in found["agreement"] if one["proxy"] == "distilled"]
    assert {(one["measure"], one["top"]) for one in by_set} == {
        ("spearman", None), ("kendall", None), ("spearman", 3), ("kendall", 3)
    }  # fmt: skip
    assert [one["value"] for one in by_set] == pytest.approx([1] * 4)
    best = max(one["accuracy"]["all"] for one in found["settings"])
    assert found["first_choice"]["distilled"] == best > 0.5
    assert found["summary"]["spearman, distilled"] == 1
    assert set(found["cost"]["seconds_by_training"]) == {"distilled", "random", "early", "all"}
    assert (ranked / "rank.png").read_bytes().startswith(b"\x89PNG")
    assert "distilled images | spearman | 1.00 [" in (ranked / "rank.md").read_text()
    assert not (ranked / "evaluated").exists()


def test_what_was_trained_before_a_stop_is_kept(ranked: Path, shared_ddist) -> None:
    words = (*QUICK, *SPACE, "task.epochs=1", "evaluation.epochs=1", "hydra.run.dir=stopped")
    stop = (
        "import ddist.tasks.rank as r; before = r.say\n"
        "def say(number, *rest):\n"
        "    before(number, *rest)\n"
        "    if number == 2: raise KeyboardInterrupt\n"
        "r.say = say"
    )
    stopped = shared_ddist(*words, before=stop)
    assert stopped.code == 130 and "does what is missing" in stopped.err
    assert len(list((shared_ddist.folder / "stopped" / "evaluated").glob("*.json"))) == 8
    again = shared_ddist(*words)
    assert again.code == 0 and again.out.count("Evaluated before: ") == 8
    shutil.rmtree(shared_ddist.folder / "stopped")
    fresh = shared_ddist(*words)
    assert fresh.code == 0
    (one,) = (line for line in again.out.splitlines() if line.startswith("4 of 4"))
    assert one in fresh.out


def test_a_sweep_ends_with_a_table(ranked: Path, shared_ddist) -> None:
    done = shared_ddist(
        "-m", *QUICK, *SPACE, "evaluation.epochs=1", "task.epochs=1,2", "task.early=false",
        "task.random=false", "hydra.sweep.dir=swept",
    )  # fmt: skip
    assert done.code == 0, done.err
    text = (shared_ddist.folder / "swept" / "sweep.md").read_text()
    assert "## rank" in text and "| task.epochs | spearman, distilled |" in text
    compared = shared_ddist("task=compare", "runs=swept")
    assert compared.code == 1 and "no usable results.json" in compared.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("artifact=null",), "task=rank needs the folder of a distilled set"),
        ((), "task.space.network.depth: this network has no such setting, only activation, widths"),
        (("~task.space.network",), "task.space is empty"),
        ((*SPACE[:1], "+task.space.network.widths=8"), "is a list of values"),
        ((*SPACE[:1], "+task.space.method.lr=[1,2]"), "settings of network and of evaluation"),
        ((*SPACE[:1], "+task.space.network.widths=[[4],[8]]"), "and a ranking needs 3"),
    ],
)
def test_what_cannot_be_ranked(ranked: Path, shared_ddist, words, expected: str) -> None:
    done = shared_ddist(*QUICK, *words)
    assert done.code == 1 and expected in done.err and done.err.count("\n") == 1


def test_only_trained_networks_are_ranked(ranked: Path, shared_ddist) -> None:
    done = shared_ddist("task=rank", "artifact=set", *SPACE, "evaluation=replay")
    assert done.code == 1 and "task=rank trains networks on images of any kind" in done.err
