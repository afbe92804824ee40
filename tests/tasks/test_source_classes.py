"""init.classes: the pool learns some of its source's classes, in their order."""

import json
from typing import Any

import pytest

RUN = (
    "dataset=digits", "dataset.classes=[5,6,7]", "network.widths=[16]", "init=pretrained",
    "init.source=digits", "init.num_networks=2", "init.num_held_out=2", "init.epochs=15",
    "init.batch_size=64", "init.lr=0.01", "steps=1", "evaluation.epoch_grid=[1]",
    "evaluation.num_networks=2", "paths.cache=cache",
)  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "least", "most"), [("[5,6,7]", 0.8, 1.0), ("[7,5,6]", 0.0, 0.2)]
)
def test_a_pool_knows_the_classes_it_was_given(
    shared_ddist: Any, classes: str, least: float, most: float
) -> None:
    """Of the target's in its order nearly all is right before any step; in another, nearly none."""
    name = f"run{classes[1]}"
    done = shared_ddist(*RUN, f"init.classes={classes}", f"hydra.run.dir={name}")
    assert (done.code, done.err) == (0, ""), done.out
    file = shared_ddist.folder / name / "results.json"
    untrained = json.loads(file.read_text())["baselines"]["no_adaptation"]
    assert least <= untrained["accuracy_mean"] <= most


def test_other_numbers_of_classes_are_refused(shared_ddist: Any) -> None:
    done = shared_ddist(*RUN, "init.classes=[0,1]")
    assert done.code == 1 and "digits has 2 classes and digits has 3" in done.err
