"""Replay against plain gradient descent, one network at a time; the test set decides nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, Replay
from ddist.evaluation.protocol import Context
from ddist.evaluation.replay import in_chunks, replay, steps_of, tuning_split
from ddist.init import Fixed, InitialWeights, Random
from ddist.inner.stacking import member
from ddist.networks import MLP, Weights

Make = Callable[..., DistilledDataset]


def protocol(**changes: Any) -> Replay:
    options: dict[str, Any] = {
        "name": "replay",
        "num_networks": 7,
        "step_size_grid": [0.001, 0.1],
        "epoch_grid": [1, 4],
        "tuning_networks": 3,
        "tuning_images": 300,
        "chunk": 3,
    }
    return Replay(**(options | changes))


def by_hand(
    network: nn.Module, weights: Weights, distilled: DistilledDataset, step_sizes: Tensor
) -> nn.Module:
    """One network trained with torch.optim.SGD, a step at a time. ``network`` is changed."""
    network.load_state_dict(weights)
    for epoch in step_sizes:
        for step, size in enumerate(epoch):
            chosen = distilled.step_index == step
            sgd = torch.optim.SGD(network.parameters(), lr=float(size))
            sgd.zero_grad()
            cross_entropy(network(distilled.images[chosen]), distilled.labels[chosen]).backward()
            sgd.step()
    return network


def accuracy_by_hand(network: nn.Module, data: RealData) -> float:
    with torch.no_grad():
        predicted = network(data.normalization(data.test.x)).argmax(1)
    return float((predicted == data.test.y).double().mean())


@pytest.mark.parametrize("soft", [False, True])
def test_it_is_gradient_descent_over_the_steps(
    digits: RealData, network: MLP, make_distilled: Make, step_sizes: Tensor, soft: bool
) -> None:
    labels = make_distilled().labels
    soft_labels = 0.8 * nn.functional.one_hot(labels, 10) + 0.02
    distilled = make_distilled(step_sizes=step_sizes, labels=soft_labels if soft else labels)
    init = Random("xavier_normal", 5)
    found, chosen = protocol().accuracies(
        distilled, Context(digits, digits.test, network, init, seed=0)
    )
    assert chosen == {} and found.shape == (7,)
    start = init.held_out(network, 7)
    trained = replay(network, start, steps_of(distilled, digits.device), step_sizes)
    for k in range(7):
        student = by_hand(network, member(start, k), distilled, step_sizes)
        for name, w in student.named_parameters():
            torch.testing.assert_close(trained[name][k], w.detach(), rtol=1e-4, atol=1e-6)
        assert abs(float(found[k]) - accuracy_by_hand(student, digits)) <= 1 / len(digits.test)
    assert found.std() > 0  # networks differ


def test_the_order_of_steps_matters_and_is_that_of_the_index(
    network: MLP, make_distilled: Make, step_sizes: Tensor
) -> None:
    start = Random("xavier_normal", 0).held_out(network, 1)
    distilled = make_distilled(step_sizes=step_sizes)
    swapped = make_distilled(step_sizes=step_sizes, step_index=1 - distilled.step_index)
    ours, theirs = (
        replay(network, start, steps_of(each, torch.device("cpu")), step_sizes)
        for each in (distilled, swapped)
    )
    assert not torch.allclose(ours["head.weight"], theirs["head.weight"], atol=1e-4)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    same = make_distilled(
        images=distilled.images[shuffled],
        labels=distilled.labels[shuffled],
        step_index=distilled.step_index[shuffled],
    )
    again = replay(network, start, steps_of(same, torch.device("cpu")), step_sizes)
    torch.testing.assert_close(again["head.weight"], ours["head.weight"], rtol=1e-4, atol=1e-6)


def test_without_an_index_there_is_one_step(make_distilled: Make) -> None:
    ((images, labels),) = steps_of(make_distilled(step_index=None), torch.device("cpu"))
    assert len(images) == len(labels) == 40


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_no_number(
    digits: RealData, network: MLP, make_distilled: Make, step_sizes: Tensor, chunk: int
) -> None:
    distilled, init = make_distilled(step_sizes=step_sizes), Random("xavier_normal", 0)
    expected, found = (
        protocol(chunk=c).accuracies(distilled, Context(digits, digits.test, network, init, 0))[0]
        for c in (7, chunk)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1 / len(digits.test))


def test_chunks_hold_every_network_once() -> None:
    weights = {"a": torch.arange(7), "b": torch.arange(14).view(7, 2)}
    parts = list(in_chunks(weights, 3))
    assert [len(part["b"]) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part["a"] for part in parts]), weights["a"])


def test_without_step_sizes_the_best_of_the_grid_is_taken(
    digits: RealData, network: MLP, make_distilled: Make
) -> None:
    """Compared with a search that starts every candidate anew."""
    judge, init, distilled = protocol(), Random("xavier_normal", 0), make_distilled()
    steps, images = steps_of(distilled, digits.device), tuning_split(digits, 300, 0)
    scores = {}
    for size in (0.001, 0.1):
        for epochs in (1, 4):
            total = 0.0
            for k in range(3):
                weights = member(init.draw(network, 3, "tune"), k)
                student = by_hand(network, weights, distilled, torch.full((epochs, 2), size))
                predicted = student(digits.normalization(images.x)).argmax(1)
                total += float((predicted == images.y).double().mean())
            scores[(size, epochs)] = total / 3
    best = max(scores, key=lambda key: scores[key])
    assert sorted(scores.values())[-1] - sorted(scores.values())[-2] > 0.01  # no tie
    assert judge.tune(steps, Context(digits, digits.train, network, init, 0)) == best
    found, chosen = judge.accuracies(distilled, Context(digits, digits.test, network, init, 0))
    assert (chosen["step_size"], chosen["epochs"]) == best
    same = make_distilled(step_sizes=torch.full((int(best[1]), 2), best[0]))
    expected, _ = judge.accuracies(same, Context(digits, digits.test, network, init, 0))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_tuning_never_touches_the_test_split(
    real_data: Callable[..., RealData],
    network: MLP,
    make_distilled: Make,
    untouchable: Any,
    validation: float,
) -> None:
    data = real_data("digits", validation=validation).load()
    data.test = untouchable
    steps = steps_of(make_distilled(), data.device)
    protocol().tune(steps, Context(data, data.train, network, Random("xavier_normal", 0), 0))


def test_where_images_are_held_out_they_judge(real_data: Callable[..., RealData]) -> None:
    data = real_data("digits", validation=0.2).load()
    assert data.validation is not None
    found = tuning_split(data, 10**6, 0)
    assert len(found) == len(data.validation)
    assert torch.equal(
        found.x.flatten(1).sum(1).sort()[0], data.validation.x.flatten(1).sum(1).sort()[0]
    )


def test_the_numbers_are_of_the_split_that_was_asked_for(
    real_data: Callable[..., RealData],
    network: MLP,
    make_distilled: Make,
    step_sizes: Tensor,
    untouchable: Any,
) -> None:
    data = real_data("digits", validation=0.2).load()
    evaluator = Evaluator(protocol(), {"mlp": network}, Random("xavier_normal", 0), seed=0)
    distilled = make_distilled(step_sizes=step_sizes)
    on_test = evaluator.run(distilled, data)
    assert on_test == evaluator.run(distilled, data, data.test)
    data.test = untouchable
    on_validation = evaluator.run(distilled, data, data.validation)
    assert on_validation[0].accuracy_mean != on_test[0].accuracy_mean


def test_tuning_images_are_drawn_once_and_repeat(digits: RealData) -> None:
    first, again, other = (tuning_split(digits, 100, seed) for seed in (0, 0, 1))
    assert len(first) == 100 and torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    assert len(tuning_split(digits, 10**6, 0)) == len(digits.train)


def test_mixed_precision_is_refused_before_anything_is_computed(network: MLP) -> None:
    judge, networks = protocol(), {"mlp": network}
    with pytest.raises(DdistError, match=r"replayed in 32-true only: set evaluation\.precision=32"):
        Evaluator(judge, networks, Random("xavier_normal", 0), seed=0, precision="bf16-mixed")


class Noting(InitialWeights):
    """Random, writing down what was drawn."""

    def __init__(self, inner: InitialWeights) -> None:
        self.inner = inner
        self.drawn: list[Weights] = []
        self.held: list[Weights] = []

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        self.drawn.append(self.inner.draw(network, num, *keys))
        return self.drawn[-1]

    def held_out(self, network: nn.Module, num: int) -> Weights:
        self.held.append(self.inner.held_out(network, num))
        return self.held[-1]


def members(drawn: list[Weights]) -> Iterator[Tensor]:
    for weights in drawn:
        yield from weights["head.weight"]


def test_held_out_networks_are_none_of_training_or_tuning(
    digits: RealData, network: MLP, make_distilled: Make
) -> None:
    init = Noting(Random("xavier_normal", 0))
    for step in range(20):
        init.draw(network, 2, 0, step)  # as training draws them
    protocol().accuracies(make_distilled(), Context(digits, digits.test, network, init, 0))
    seen, held = list(members(init.drawn)), list(members(init.held))
    assert len(seen) == 40 + 3 and len(held) == 7
    assert not any(torch.equal(a, b) for a in held for b in seen)
    assert len({tuple(w.flatten().tolist()) for w in held}) == 7


def test_a_fixed_start_is_evaluated_once(
    digits: RealData, network: MLP, make_distilled: Make, step_sizes: Tensor
) -> None:
    evaluator = Evaluator(protocol(), {"mlp": network}, Fixed("xavier_normal", 0), seed=0)
    (row,) = evaluator.run(make_distilled(step_sizes=step_sizes), digits)
    assert row.num_networks == 1 and row.accuracy_std is None and row.accuracy_ci95 is None


def test_a_fixed_start_is_tuned_once(
    digits: RealData, network: MLP, make_distilled: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of one network would cost as much as different ones and say nothing."""
    init, drawn = Fixed("xavier_normal", 0), []
    draw = init.draw
    monkeypatch.setattr(init, "draw", lambda net, num, *keys: drawn.append(num) or draw(net, num))
    protocol().tune(
        steps_of(make_distilled(), digits.device), Context(digits, digits.train, network, init, 0)
    )
    assert drawn == [1]
