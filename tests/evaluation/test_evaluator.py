"""Rows: mean, spread and interval, against numpy and scipy."""

import json

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.data.split import Split
from ddist.evaluation import Evaluator, Protocol
from ddist.evaluation.evaluator import summarise
from ddist.evaluation.protocol import Context
from ddist.init import Random
from ddist.networks import MLP


@pytest.mark.parametrize("count", [2, 5, 200])
def test_the_summary_is_numpys_and_scipys(count: int) -> None:
    values = np.random.default_rng(0).uniform(0.5, 0.9, count)
    row = summarise(torch.from_numpy(values), "replay", "lenet", {"epochs": 3})
    assert row.accuracy_mean == pytest.approx(values.mean(), rel=1e-12)
    assert row.accuracy_std == pytest.approx(values.std(ddof=1), rel=1e-12)
    low, high = scipy.stats.t.interval(
        0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values)
    )
    assert row.accuracy_ci95 == pytest.approx((high - low) / 2, rel=1e-9)
    assert (row.protocol, row.network, row.num_networks) == ("replay", "lenet", count)


def test_a_single_network_has_no_spread() -> None:
    row = summarise(torch.tensor([0.5]), "replay", "lenet", {})
    assert (row.accuracy_mean, row.accuracy_std, row.accuracy_ci95) == (0.5, None, None)


def test_single_precision_accuracies_lose_nothing() -> None:
    row = summarise(torch.full((200,), 0.1), "replay", "lenet", {})
    assert row.accuracy_std == 0 and row.accuracy_mean == pytest.approx(0.1, abs=1e-8)


def test_a_row_is_json() -> None:
    row = summarise(torch.tensor([0.5, 0.6]), "replay", "lenet", {"step_size": 0.1})
    assert json.loads(json.dumps(row.to_dict()))["chosen"] == {"step_size": 0.1}


class Recited(Protocol):
    """Gives its own numbers and writes down what it was asked."""

    name = "recited"

    def __init__(self, uses_network: bool) -> None:
        self.uses_network = uses_network
        self.asked: list[tuple[nn.Module, Split, int]] = []

    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        self.asked.append((context.network, context.split, context.seed))
        return torch.tensor([0.25, 0.75]), {"k": 1}


@pytest.mark.parametrize("uses_network", [True, False])
def test_one_row_per_network_in_order(
    digits: RealData, network: MLP, make_distilled, uses_network: bool
) -> None:
    other = MLP(10, digits.image_shape, widths=[], activation="relu")
    protocol = Recited(uses_network)
    init = Random("xavier_normal", 0)
    rows = Evaluator(protocol, {"b": network, "a": other}, init, 7).run(make_distilled(), digits)
    assert [row.network for row in rows] == (["b", "a"] if uses_network else ["none"])
    assert all(row.protocol == "recited" and row.accuracy_mean == 0.5 for row in rows)
    assert all(split is digits.test and seed == 7 for _, split, seed in protocol.asked)


def test_networks_are_tested_on_fewer_images_of_all_classes_alike(
    digits: RealData, network: MLP, make_distilled
) -> None:
    protocol = Recited(uses_network=True)
    init = Random("xavier_normal", 0)
    evaluator = Evaluator(protocol, {"a": network}, init, 7, test_images=50)
    evaluator.run(make_distilled(), digits)
    evaluator.row("a", make_distilled(), digits, digits.train)  # another split is taken whole
    (_, few, _), (_, all_images, _) = protocol.asked
    assert all_images is digits.train
    shares = [few.counts[c] / digits.test.counts[c] for c in range(10)]
    assert len(few) == 50 and max(shares) - min(shares) < 1 / min(digits.test.counts)
    assert digits.test.at_most(len(digits.test)) is digits.test
