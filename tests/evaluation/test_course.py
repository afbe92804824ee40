"""The poisoning objective, and the course of its measures, against the formulas written out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import log_softmax

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, Replay
from ddist.evaluation.protocol import Context
from ddist.evaluation.replay import shown_steps, tuning_split
from ddist.init import Random
from ddist.networks import MLP
from ddist.objectives import Poison
from ddist.seeding import generator

Make = Callable[..., DistilledDataset]


@pytest.fixture
def poison() -> Poison:
    return Poison(attacked=3, target=8)


def protocol(**changes: Any) -> Replay:
    options: dict[str, Any] = {
        "name": "replay", "num_networks": 3, "step_size_grid": [0.1, 0.3], "epoch_grid": [1, 5],
        "tuning_networks": 2, "tuning_images": 100, "chunk": 2,
    }  # fmt: skip
    return Replay(**(options | changes))


def test_the_loss_is_cross_entropy_to_changed_labels(poison: Poison) -> None:
    logits = torch.randn(40, 10, dtype=torch.float64, generator=generator(0, "logits"))
    y = torch.arange(40) % 10
    expected = 0.0
    for row, label in zip(logits, y.tolist(), strict=True):
        expected -= float(log_softmax(row, 0)[8 if label == 3 else label]) / 40
    assert float(poison(logits, y)) == pytest.approx(expected, rel=1e-12)
    assert y.tolist() == (torch.arange(40) % 10).tolist()  # as they were


def test_measures_count_what_they_say(poison: Poison) -> None:
    y = torch.tensor([3, 3, 3, 3, 8, 8, 0, 0, 0, 0])
    predicted = torch.tensor([[3, 8, 8, 1, 8, 3, 0, 0, 0, 1], [3, 3, 3, 3, 8, 8, 0, 0, 0, 0]])
    found = {name: measure(predicted, y).tolist() for name, measure in poison.measures.items()}
    assert found == {
        "attacked_accuracy": [0.25, 1.0],
        "attacked_as_target": [0.5, 0.0],
        "others_accuracy": [4 / 6, 1.0],
        "accuracy": [0.5, 1.0],
        "accuracy_as_wanted": [0.6, 0.6],
    }


def test_the_course_is_gradient_descent_looked_at(
    digits: RealData, network: MLP, make_distilled: Make, poison: Poison
) -> None:
    step_sizes = torch.tensor([[0.3, 0.1], [0.2, 0.4], [0.1, 0.1]])
    distilled = make_distilled(step_sizes=step_sizes)
    init = Random("xavier_normal", 0)
    evaluator = Evaluator(protocol(), {"mlp": network}, init, seed=0, objective=poison)
    (row,) = evaluator.run(distilled, digits)
    assert row.course["steps"] == [0, 1, 2, 3, 4, 5, 6]
    held_out = init.held_out(network, 3)
    curves: dict[str, list[list[float]]] = {name: [] for name in poison.measures}
    x, y = digits.normalization(digits.test.x), digits.test.y
    for k in range(3):
        theta = {name: w[k].clone() for name, w in held_out.items()}
        looks: list[Tensor] = [functional_call(network, theta, (x,)).argmax(1)]
        for images, labels, eta in distilled.replay():
            theta = {name: w.requires_grad_() for name, w in theta.items()}
            loss = torch.nn.functional.cross_entropy(
                functional_call(network, theta, (images,)), labels
            )
            gradient = torch.autograd.grad(loss, list(theta.values()))
            pairs = zip(theta.items(), gradient, strict=True)
            theta = {name: (w - eta * g).detach() for (name, w), g in pairs}
            looks.append(functional_call(network, theta, (x,)).argmax(1))
        for name, measure in poison.measures.items():
            curves[name].append([float(measure(look[None], y)) for look in looks])
    for name, values in curves.items():
        each = torch.tensor(values, dtype=torch.float64)
        for kind, expected in (("mean", each.mean(0)), ("std", each.std(0))):
            ours = torch.tensor(row.course[f"{name}_{kind}"], dtype=torch.float64)
            torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)  # an image in 445
    assert row.accuracy_mean == pytest.approx(row.course["accuracy_mean"][-1])
    assert row.score() == row.course["accuracy_as_wanted_mean"][-1]
    assert row.to_dict()["course"] == row.course


def test_without_an_objective_there_is_no_course(
    digits: RealData, network: MLP, make_distilled: Make
) -> None:
    evaluator = Evaluator(protocol(), {"mlp": network}, Random("xavier_normal", 0), seed=0)
    (row,) = evaluator.run(make_distilled(step_sizes=torch.full((1, 2), 0.1)), digits)
    assert "course" not in row.to_dict() and row.score() == row.accuracy_mean


@pytest.mark.parametrize(("num", "steps"), [(1, [0, 1]), (10, list(range(11))), (0, [0])])
def test_all_of_few_steps_are_shown(num: int, steps: list[int]) -> None:
    assert shown_steps(num) == steps


def test_of_many_steps_some_are_shown() -> None:
    found = shown_steps(300)
    assert len(found) == 11 and found[0] == 0 and found[-1] == 300


def test_a_set_without_step_sizes_is_tuned_to_do_what_is_wanted(
    digits: RealData, network: MLP, make_distilled: Make, poison: Poison
) -> None:
    """The grid's best is that which calls 3 an 8, in as many steps as it is compared with."""
    judge = protocol(step_size_grid=[0.01, 0.1, 1.0])
    init = Random("xavier_normal", 0)
    distilled = make_distilled()
    labels = poison.targets(distilled.labels)
    distilled = make_distilled(labels=labels, meta={**distilled.meta, "student_epochs": 4})
    _, chosen = judge.accuracies(
        distilled, Context(digits, digits.test, network, init, 0, objective=poison)
    )
    assert chosen["epochs"] == 4
    seen, index = tuning_split(digits, 100, 0), distilled.step_index
    assert index is not None
    weights = init.draw(network, 2, "tune")
    scores = {}
    for size in judge.step_size_grid:
        right = []
        for k in range(2):
            theta = {name: w[k].clone().requires_grad_() for name, w in weights.items()}
            for _ in range(4):
                for step in range(2):
                    images, wanted, _ = distilled.examples(index == step)
                    loss = torch.nn.functional.cross_entropy(
                        functional_call(network, theta, (images,)), wanted
                    )
                    g = torch.autograd.grad(loss, list(theta.values()))
                    pairs = zip(theta.items(), g, strict=True)
                    theta = {n: (w - size * d).detach().requires_grad_() for (n, w), d in pairs}
            said = functional_call(network, theta, (digits.normalization(seen.x),)).argmax(1)
            right.append((said == poison.targets(seen.y)).double().mean())
        scores[size] = float(torch.stack(right).mean())
    assert chosen["step_size"] == max(scores, key=lambda size: scores[size])


def test_impossible_classes() -> None:
    with pytest.raises(DdistError, match="are both 1: name two classes"):
        Poison(1, 1)


def test_classes_that_are_not_there() -> None:
    with pytest.raises(DdistError, match=r"objective\.target=10 is none of the 10 classes"):
        Poison(0, 10).check(10)
    Poison(9, 0).check(10)
