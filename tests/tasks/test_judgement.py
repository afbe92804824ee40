"""A set that became worse than its start gives way to it, judged on held-out training images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ddist.artifact.dataset import DistilledDataset
from ddist.data.split import LEAST_LEFT, MOST_SPARE, SPARE, Split, spare
from ddist.tasks.selection import Judgement, searched

QUICK = ["method=dm", "network=mlp", "threads=1", "steps=30", "ipc=1",
         "evaluation.num_networks=2", "evaluation.epochs=60",
         "reference.coreset.select=null"]  # fmt: skip


def split(*counts: int) -> Split:
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Split.sort(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y, len(counts))


def test_images_are_spared_where_each_class_keeps_some() -> None:
    assert spare(split(50, 60)) == SPARE
    assert spare(split(50, LEAST_LEFT)) == 0.0
    assert spare(split(9000, 11000)) * 20_000 == MOST_SPARE


@pytest.mark.parametrize(("start", "end", "kept"), [(0.4, 0.5, "end"), (0.5, 0.4, "start")])
def test_the_better_one_is_kept_and_searched_for(start: float, end: float, kept: str) -> None:
    selection = Judgement(start, end).selection()
    assert selection["kept"] == kept and selection["value"] == 0.5
    assert searched(selection) == -0.5


def distil(ddist: Any, name: str, *words: str) -> Path:
    done = ddist(*QUICK, f"hydra.run.dir={name}", *words)
    assert (done.code, done.err) == (0, ""), done.out + done.err
    return Path(ddist.folder / name)


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("rate", "kept"), [(0.05, "end"), (300.0, "start")])
def test_a_run_keeps_the_better_one_and_says_so(ddist: Any, rate: float, kept: str) -> None:
    folder = distil(ddist, "run", f"method.lr.images={rate}")
    selection = results(folder)["selection"]
    assert selection["kept"] == kept
    assert (selection["end"] < selection["start"]) == (kept == "start")
    distilled = DistilledDataset.load(folder / "distilled")
    assert (distilled.meta.get("kept") == "start") == (kept == "start")
    assert ("became worse" in (folder / "ddist.log").read_text()) == (kept == "start")
    start = distil(ddist, "start", "steps=0")
    same = torch.equal(distilled.images, DistilledDataset.load(start / "distilled").images)
    assert same == (kept == "start")


def test_nothing_is_held_out_where_a_paper_has_settings(ddist: Any) -> None:
    folder = distil(ddist, "paper", "recipe=dm/_paper")
    assert results(folder)["selection"]["name"] == "outer_loss"
