"""The confusion of classes: scikit-learn's, over all networks, and never in results.json."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

import ddist.evaluation.evaluator
from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import (
    Evaluator,
    KernelRegression,
    NearestNeighbours,
    Protocol,
    Replay,
    Row,
    Training,
)
from ddist.evaluation.replay import replay, steps_of
from ddist.init import Random
from ddist.inner.predict import count, predict
from ddist.kernels import FullyConnected
from ddist.networks import MLP

Make = Callable[..., DistilledDataset]
INIT = Random("xavier_normal", 0)


def make_replay() -> Replay:
    return Replay(
        name="replay",
        num_networks=3,
        step_size_grid=[0.1, 0.2],
        epoch_grid=[1],
        tuning_networks=2,
        tuning_images=100,
        chunk=2,
    )


def make_training() -> Training:
    options: dict[str, Any] = {
        "schedule": "halfway", "loss": "cross_entropy", "batch_size": 256, "optimizer": "sgd",
        "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "augment": None, "mix": None,
        "temperature": 1.0, "labels": "own",
    }  # fmt: skip
    return Training(name="dc2021", num_networks=3, epochs=4, chunk=2, **options)


def make_krr() -> KernelRegression:
    kernel = FullyConnected(
        depth=1, activation="relu", weight_std=1.4, bias_std=0.1, kind="ntk", memory=100.0
    )
    return KernelRegression(name="krr", kernel=kernel, ridge=1e-6)


def make_knn() -> NearestNeighbours:
    return NearestNeighbours(name="knn", k_grid=[1, 3], tuning_images=100)


def evaluated(protocol: Protocol, distilled: DistilledDataset, data: RealData, network: MLP) -> Row:
    (row,) = Evaluator(protocol, {"mlp": network}, INIT, seed=0).run(distilled, data)
    return row


@pytest.mark.parametrize("make", [make_replay, make_training, make_krr, make_knn])
def test_every_protocol_counts_each_prediction_on_the_split_once(
    digits: RealData, make_distilled: Make, network: MLP, make: Callable[[], Protocol]
) -> None:
    protocol = make()
    row = evaluated(protocol, make_distilled(), digits, network)
    counts = row.confusion
    assert counts is not None and counts.dtype == torch.int64
    assert counts.sum(1).tolist() == (digits.test.y.bincount() * row.num_networks).tolist()
    assert float(counts.trace() / counts.sum()) == pytest.approx(row.accuracy_mean, abs=1e-6)


def test_it_is_scikit_learns_for_networks(
    digits: RealData, make_distilled: Make, network: MLP, step_sizes: torch.Tensor
) -> None:
    distilled = make_distilled(step_sizes=step_sizes)
    trained = replay(
        network, INIT.held_out(network, 3), steps_of(distilled, digits.device), step_sizes
    )
    predicted = predict(network, trained, digits.normalization(digits.test.x)).argmax(-1)
    truth = np.tile(digits.test.y.numpy(), 3)
    expected = confusion_matrix(truth, predicted.flatten().numpy(), labels=range(10))
    found = evaluated(make_replay(), distilled, digits, network).confusion
    assert found is not None and (found.numpy() == expected).all()


def test_it_is_scikit_learns_for_neighbours(
    digits: RealData, make_distilled: Make, network: MLP
) -> None:
    distilled = make_distilled()
    row = evaluated(make_knn(), distilled, digits, network)
    model = KNeighborsClassifier(n_neighbors=int(row.chosen["k"]))
    model.fit(distilled.images.flatten(1).numpy(), distilled.labels.numpy())
    predicted = model.predict(digits.normalization(digits.test.x).flatten(1).numpy())
    expected = confusion_matrix(digits.test.y.numpy(), predicted, labels=range(10))
    assert row.confusion is not None and (row.confusion.numpy() == expected).all()


def test_classes_that_never_occur_have_empty_rows() -> None:
    counts = torch.zeros(4, 4, dtype=torch.int64)
    count(counts, torch.tensor([[0, 3], [3, 3]]), torch.tensor([0, 1]))
    assert counts.tolist() == [[1, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    count(None, torch.tensor([[0]]), torch.tensor([0]))


def test_results_json_is_not_burdened_and_many_classes_are_not_counted(
    digits: RealData, make_distilled: Make, network: MLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = evaluated(make_knn(), make_distilled(), digits, network)
    assert "confusion" not in json.loads(json.dumps(row.to_dict()))
    monkeypatch.setattr(ddist.evaluation.evaluator, "MAX_CLASSES", 9)
    bare = evaluated(make_knn(), make_distilled(), digits, network)
    assert bare.confusion is None and bare == row
