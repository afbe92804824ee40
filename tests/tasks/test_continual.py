"""task=continual: memories of classes that come in steps."""

import json
from pathlib import Path

import pytest
import torch

from ddist.artifact.dataset import DistilledDataset
from ddist.errors import DdistError
from ddist.tasks.memories import class_orders, joined

QUICK = (
    "task=continual", "ipc=2", "task.steps=2", "task.orders=2", "network.widths=[16]",
    "evaluation=dc2021", "evaluation.num_networks=1", "evaluation.epochs=20", "evaluation.lr=0.1",
)  # fmt: skip


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_each_order_has_all_classes_in_groups() -> None:
    orders = class_orders(7, 3, 4, seed=1)
    assert [[len(group) for group in order] for order in orders] == [[3, 2, 2]] * 4
    flat = [[c for group in order for c in group] for order in orders]
    assert all(sorted(order) == list(range(7)) for order in flat)
    assert len({tuple(order) for order in flat}) > 1
    assert class_orders(7, 3, 2, seed=1) == orders[:2]
    with pytest.raises(DdistError, match="choose at most 3 steps"):
        class_orders(7, 4, 1, seed=0)


def test_some_classes_of_a_dataset(digits) -> None:
    some = digits.of_classes([4, 1])
    assert some.class_names == ("4", "1") and some.num_classes == 2
    for split, all_ in ((some.train, digits.train), (some.test, digits.test)):
        assert torch.equal(split.x[split.y == 0], all_.x[all_.y == 4])
        assert torch.equal(split.x[split.y == 1], all_.x[all_.y == 1])
        assert len(split) == int(((all_.y == 4) | (all_.y == 1)).sum())
    assert some.normalization is digits.normalization
    assert some.fingerprint() != digits.fingerprint()


@pytest.fixture(scope="module")
def learned(shared_ddist) -> Path:
    done = shared_ddist(*QUICK, "method=random", "task.beside=[kmeans]", "hydra.run.dir=whole")
    assert (done.code, done.err) == (0, ""), done.out
    return shared_ddist.folder / "whole"


def test_memories_hold_images_of_their_classes(learned: Path, digits) -> None:
    found = results(learned)
    pixels = digits.normalization(digits.train.x)
    for number, order in enumerate(found["orders"]):
        parts = [
            DistilledDataset.load(
                learned / "memories" / "random" / f"order-{number + 1}" / f"step-{step + 1}"
                / "distilled"
            )
            for step in range(2)
        ]  # fmt: skip
        names = [name for group in order for name in group]
        together = joined(parts, digits.of_classes([digits.class_names.index(n) for n in names]))
        assert torch.bincount(together.labels).tolist() == [2] * 10
        for image, label in zip(together.images, together.labels, strict=True):
            (place,) = (pixels == image).flatten(1).all(1).nonzero().flatten()[:1]
            assert digits.class_names[digits.train.y[place]] == names[label]


def test_figures_are_of_the_classes_seen(learned: Path) -> None:
    found = results(learned)
    assert set(found["continual"]) == {"random", "kmeans"}
    for figure in found["continual"].values():
        assert figure["classes"] == [5, 10]
        per_order = torch.tensor(figure["accuracy"])  # [orders, steps]
        assert per_order.shape == (2, 2) and (per_order > 0.05).all()
        assert figure["accuracy_mean"] == pytest.approx(per_order.mean(0).tolist())
        assert figure["accuracy_std"] == pytest.approx(per_order.std(0).tolist())
        mean = figure["accuracy_mean"]
        assert mean[0] > mean[1]  # five classes are easier than ten
    assert "| memory | 5 classes | 10 classes | mean |" in (learned / "continual.md").read_text()
    assert (learned / "continual.png").read_bytes().startswith(b"\x89PNG")


def test_it_goes_on_where_it_was_stopped(learned: Path, shared_ddist) -> None:
    words = (*QUICK, "method=random", "task.beside=[kmeans]", "hydra.run.dir=stopped")
    stop = (
        "import ddist.tasks.continual as c; before = c.joined\n"
        "seen = []\n"
        "def joined(*parts):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 4: raise KeyboardInterrupt\n"
        "    return before(*parts)\n"
        "c.joined = joined"
    )
    stopped = shared_ddist(*words, before=stop)
    assert stopped.code == 130 and "does what is missing" in stopped.err
    again = shared_ddist(*words)
    assert again.code == 0 and again.out.count("Evaluated before") == 3
    found, whole = results(shared_ddist.folder / "stopped"), results(learned)
    assert found["continual"] == whole["continual"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("method=random", "task.steps=6"), "needs 2 classes in each step"),
        (("method=random", "budget=5m"), "set steps=…, no budget"),
        (("method=random", "task.beside=[dm]"), "-m method=random,dm"),
        (("method=random", "task.beside=[dmm]"), "Unknown method 'dmm' (did you mean dm?)"),
        (("method=dd",), "hard labels and no learned step sizes"),
    ],
)
def test_what_cannot_be_done(ddist, words, expected: str) -> None:
    done = ddist(*QUICK, *words)
    assert done.code == 1 and expected in done.err and done.err.count("\n") == 1, done.err


def test_only_trained_networks_are_followed(ddist) -> None:
    done = ddist("task=continual", "method=random", "evaluation=replay")
    assert done.code == 1 and "task=continual trains fresh networks after each step" in done.err
