"""Nearest neighbours: scikit-learn's own numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Evaluator, NearestNeighbours
from ddist.evaluation.protocol import Context
from ddist.evaluation.replay import tuning_split
from ddist.init import Random
from ddist.networks import MLP
from ddist.seeding import generator

Make = Callable[..., DistilledDataset]


def run(data: RealData, distilled: DistilledDataset, network: MLP, k_grid: list[int]) -> Any:
    knn = NearestNeighbours(name="knn", k_grid=k_grid, tuning_images=400)
    (row,) = Evaluator(knn, {"mlp": network}, Random("xavier_normal", 0), seed=0).run(
        distilled, data
    )
    return row


def scores(data: RealData, distilled: DistilledDataset, x: Tensor, y: Tensor, k: int) -> float:
    model = KNeighborsClassifier(n_neighbors=k)
    model.fit(distilled.images.flatten(1).numpy(), distilled.labels.numpy())
    return float(model.score(data.normalization(x).flatten(1).numpy(), y.numpy()))


@pytest.mark.parametrize("k", [1, 3])
def test_accuracy_is_scikit_learns(
    digits: RealData, make_distilled: Make, network: MLP, k: int
) -> None:
    distilled = make_distilled()
    row = run(digits, distilled, network, [k])
    expected = scores(digits, distilled, digits.test.x, digits.test.y, k)
    assert row.accuracy_mean == pytest.approx(expected, abs=1e-12)
    assert row.network == "none" and row.num_networks == 1 and row.chosen == {"k": k}
    assert row.accuracy_mean > 0.5


def test_k_is_the_best_on_training_images(
    digits: RealData, make_distilled: Make, network: MLP
) -> None:
    distilled, tuning = make_distilled(), tuning_split(digits, 400, 0)
    found = {k: scores(digits, distilled, tuning.x, tuning.y, k) for k in (9, 1, 5)}
    best = max(found, key=lambda k: found[k])
    assert best != 9
    assert run(digits, distilled, network, [9, 1, 5]).chosen == {"k": best}


def test_more_neighbours_than_images_are_left_out(
    digits: RealData, make_distilled: Make, network: MLP
) -> None:
    assert run(digits, make_distilled(), network, [1, 1000]).chosen == {"k": 1}


def test_soft_labels_count_as_their_likeliest_class(
    digits: RealData, make_distilled: Make, network: MLP
) -> None:
    hard = make_distilled()
    soft = make_distilled(labels=0.5 * nn.functional.one_hot(hard.labels, 10) + 0.05)
    assert run(digits, soft, network, [1]) == run(digits, hard, network, [1])


@pytest.mark.parametrize("k", [3, 5])
def test_neighbours_vote_with_their_weights(
    digits: RealData, make_distilled: Make, network: MLP, k: int
) -> None:
    """Each class has the sum of the weights of those of the k nearest images that are its own."""
    weights = 0.1 + 2 * torch.rand(40, generator=generator(0, "weights"))
    distilled = make_distilled(weights=weights)
    x, y = digits.normalization(digits.test.x).flatten(1), digits.test.y
    right = evenly = 0
    for image, label in zip(x.double(), y.tolist(), strict=True):
        distances = (distilled.images.flatten(1).double() - image).square().sum(1)
        votes, counts = [0.0] * 10, [0] * 10
        for i in distances.argsort(stable=True)[:k].tolist():
            votes[int(distilled.labels[i])] += float(weights[i])
            counts[int(distilled.labels[i])] += 1
        right += votes.index(max(votes)) == label
        evenly += counts.index(max(counts)) == label
    row = run(digits, distilled, network, [k])
    assert row.accuracy_mean == pytest.approx(right / len(y), abs=1e-12)
    assert right != evenly


def test_k_is_chosen_without_the_test_split(
    digits: RealData, make_distilled: Make, network: MLP, untouchable: Any
) -> None:
    knn = NearestNeighbours(name="knn", k_grid=[1, 3], tuning_images=100)
    digits.test, elsewhere = untouchable, tuning_split(digits, 50, 1)
    knn.accuracies(
        make_distilled(), Context(digits, elsewhere, network, Random("xavier_normal", 0), seed=0)
    )
