"""Baselines: that the images are what they claim to be."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import ddist.methods.selection
from ddist.data import RealData
from ddist.evaluation import Replay
from ddist.evaluation.replay import replay, tuning_split
from ddist.inner.predict import accuracy
from ddist.methods import OptimizedRandom, Selection


def select(common: dict[str, Any], start: str, ipc: int = 3, steps: int = 1) -> dict[str, Any]:
    return Selection(**common, ipc=ipc, student_steps=steps, start=start).tensors()


def places(image: Tensor, data: RealData) -> list[tuple[int, int]]:
    """(position in its class, class) of the training images that equal ``image``."""
    x = data.normalization(data.train.x)
    found = torch.nonzero((x == image).flatten(1).all(1)).flatten()
    return [(int(i), int(data.train.y[i])) for i in found]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_random_images_are_real_and_of_their_class(common: dict[str, Any], steps: int) -> None:
    tensors = select(common, "real", steps=steps)
    found = [places(image, common["data"]) for image in tensors["images"]]
    assert [each[0][1] for each in found] == tensors["labels"].tolist()
    assert len({each[0][0] for each in found}) == 30  # all different
    for step in range(steps):
        labels = tensors["labels"][tensors["step_index"] == step]
        assert labels.unique().tolist() == list(range(10))


def test_average_images_are_class_means(common: dict[str, Any]) -> None:
    tensors, data = select(common, "average"), common["data"]
    for c in range(10):
        mean = data.normalization(data.train.x[data.train.y == c]).mean(0)
        for image in tensors["images"][tensors["labels"] == c]:
            torch.testing.assert_close(image, mean)


def test_kmeans_spreads_less_than_single_images(common: dict[str, Any]) -> None:
    """Mean squared distance of a class's images to the nearest of its representatives."""
    data = common["data"]

    def distance(tensors: dict[str, Any]) -> float:
        total = 0.0
        for c in range(10):
            x = data.normalization(data.train.x[data.train.y == c]).flatten(1)
            chosen = tensors["images"][tensors["labels"] == c].flatten(1)
            total += float(torch.cdist(x, chosen).square().min(1).values.sum())
        return total / len(data.train)

    kmeans, average, random = (distance(select(common, s)) for s in ("kmeans", "average", "real"))
    assert kmeans < 0.9 * average < 0.9 * random


def test_a_selection_learns_nothing_and_has_no_step_sizes(common: dict[str, Any]) -> None:
    method = Selection(**common, ipc=1, student_steps=1, start="real")
    assert not method.learns
    assert method.tensors()["step_sizes"] is None


def test_selections_follow_the_seed(common: dict[str, Any]) -> None:
    first, again, other = (select(common | {"seed": seed}, "real")["images"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.fixture
def candidates(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The random sets that OptimizedRandom tries, in order."""
    tried: list[Tensor] = []
    original = ddist.methods.selection.start_images

    def noted(*args: Any) -> Tensor:
        tried.append(original(*args))
        return tried[-1]

    monkeypatch.setattr(ddist.methods.selection, "start_images", noted)
    return tried


def test_optimized_random_is_the_best_of_its_candidates(
    common: dict[str, Any], make_judge: Callable[..., Replay], candidates: list[Tensor]
) -> None:
    judge, data = make_judge(step_size_grid=[0.1], epoch_grid=[5]), common["data"]
    # All is random real: only the choice among the candidates can make the result better.
    method = OptimizedRandom(**common, ipc=1, student_steps=1, num_candidates=9, judge=judge)
    chosen = method.tensors()
    assert len(candidates) == 9

    def score(images: Tensor) -> float:
        """Replayed anew, by the judges' networks and images."""
        network = common["network"]
        weights = common["init"].draw(network, judge.tuning_networks, "judge")
        steps = [(images, chosen["labels"])]
        trained = replay(network, weights, steps, torch.full((5, 1), 0.1))
        images_seen = tuning_split(data, judge.tuning_images, 0)
        return float(accuracy(network, trained, data.batches(images_seen, 1000)).mean())

    scores = torch.tensor([score(each) for each in candidates], dtype=torch.float64)
    best = score(chosen["images"])
    assert best >= float(scores.median()) and best == float(scores.max())
    assert scores.max() > scores.min()  # there was a choice
    assert [places(x, data)[0][1] for x in chosen["images"]] == chosen["labels"].tolist()


def test_optimized_random_judges_spread_images_step_by_step(
    common: dict[str, Any], make_judge: Callable[..., Replay]
) -> None:
    method = OptimizedRandom(**common, ipc=3, student_steps=2, num_candidates=2, judge=make_judge())
    tensors = method.tensors()
    assert [places(x, method.data)[0][1] for x in tensors["images"]] == tensors["labels"].tolist()


def test_optimized_random_takes_soft_labels(
    common: dict[str, Any], make_judge: Callable[..., Replay]
) -> None:
    """``synthetic.labels=soft`` is nonsense for a baseline, but no reason to fail."""
    common["synthetic"] = partial(common["synthetic"], labels="soft")
    method = OptimizedRandom(**common, ipc=1, student_steps=1, num_candidates=2, judge=make_judge())
    tensors = method.tensors()
    assert tensors["labels"].shape == (10, 10)
    assert [places(x, method.data)[0][1] for x in tensors["images"]] == list(range(10))


class Untouchable:
    """A split that may not be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was touched ({name})")


def test_optimized_random_never_sees_the_test_split(
    common: dict[str, Any], make_judge: Callable[..., Replay]
) -> None:
    common["data"].test = Untouchable()
    OptimizedRandom(**common, ipc=1, student_steps=1, num_candidates=2, judge=make_judge())


def test_a_network_is_where_the_images_are_before_it_is_used(
    common: dict[str, Any],
    make_judge: Callable[..., Replay],
    make_dd: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is fitted, so that Lightning moves nothing: the method does. Others leave it to
    Lightning."""
    network, init, moves, drawn_after = common["network"], common["init"], [], []
    original = init.draw
    monkeypatch.setattr(network, "to", lambda device: moves.append(device) or network)

    def draw(*args: Any) -> Any:
        drawn_after.append(len(moves))
        return original(*args)

    monkeypatch.setattr(init, "draw", draw)
    make_dd()
    assert not moves
    judge = make_judge(step_size_grid=[0.1], epoch_grid=[1], num_networks=1)
    OptimizedRandom(**common, ipc=1, student_steps=1, num_candidates=1, judge=judge)
    assert set(moves) == {common["data"].device}
    assert drawn_after and min(drawn_after) >= 1


def test_a_run_moves_the_images_to_the_accelerator(shared_ddist: Any) -> None:
    words = ["method=random", "evaluation.num_networks=1", "evaluation.epoch_grid=[1]"]
    for more, expected in (([], "moved to cuda:0"), (["trainer.accelerator=cpu"], "moved to cpu")):
        done = shared_ddist(*words, *more, "hydra.run.dir=" + expected[-3:], before=ACCELERATOR)
        assert expected in done.out, done.out + done.err


ACCELERATOR = """
import torch
from ddist.data import RealData
import ddist.tasks.distill
torch.accelerator.current_accelerator = lambda check_available=False: torch.device("cuda:0")
def to(self, device):
    print("moved to", device)
    return self
RealData.to = to
"""
