"""The protocol linear_probe: scikit-learn's own numbers, what it chooses on, what stands beside."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

import ddist.evaluation.probe
from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.normalization import MeanStd
from ddist.augment.crop import RandomResizedCrop
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, LinearProbe, Row
from ddist.evaluation.frozen import Features, Frozen
from ddist.init import Fixed, InitialWeights, Random
from ddist.networks import MLP, Network

Make = Callable[..., DistilledDataset]
INIT = Fixed("default", 0)


def protocol(**changes: Any) -> LinearProbe:
    options: dict[str, Any] = {
        "name": "linear_probe", "num_probes": 2, "fit": "ridge", "ridge_grid": [0.1],
        "chosen_on": "real", "tuning_images": 300, "views": 3, "augment": None, "epochs": 50,
        "lr": 0.05, "weight_decay": 0.0,
    }  # fmt: skip
    return LinearProbe(**(options | changes))


def evaluator(network: MLP, init: InitialWeights = INIT, **changes: Any) -> Evaluator:
    return Evaluator(protocol(**changes), {"mlp": network}, init, seed=0)


def run(data: RealData, distilled: DistilledDataset, network: MLP, **changes: Any) -> Row:
    (row,) = evaluator(network, **changes).run(distilled, data)
    return row


def features(data: RealData, network: MLP, x: Tensor) -> Tensor:
    with torch.no_grad():
        return Frozen.of(network, INIT)(data.normalization(x)).double()


def accuracy(data: RealData, network: MLP, phi: Tensor, y: Tensor, ridge: float) -> float:
    """scikit-learn's."""
    mean_square = float((phi - phi.mean(0)).square().sum() / len(phi))
    model = Ridge(alpha=ridge * mean_square, solver="svd")
    model.fit(phi.numpy(), torch.eye(10)[y].double().numpy())
    predicted = model.predict(features(data, network, data.test.x).numpy()).argmax(1)
    return float((predicted == data.test.y.numpy()).mean())


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_accuracy_is_scikit_learns(
    digits: RealData, make_distilled: Make, network: MLP, ridge: float
) -> None:
    distilled = make_distilled()
    with torch.no_grad():
        phi = Frozen.of(network, INIT)(distilled.images).double()
    row = run(digits, distilled, network, ridge_grid=[ridge])
    expected = accuracy(digits, network, phi, distilled.labels, ridge)
    assert row.accuracy_mean == pytest.approx(expected, abs=1e-12)
    assert (row.protocol, row.network, row.num_networks) == ("linear_probe", "mlp", 1)
    assert row.chosen == {"ridge": ridge}
    assert row.confusion is not None
    assert row.confusion.sum(1).tolist() == torch.bincount(digits.test.y).tolist()
    assert int(row.confusion.diagonal().sum()) == round(expected * len(digits.test))


@pytest.mark.parametrize("fit", ["ridge", "adamw"])
def test_augmented_views_make_probes_differ(
    digits: RealData, make_distilled: Make, network: MLP, fit: str
) -> None:
    crop = RandomResizedCrop(scale=[0.3, 1.0], ratio=[0.8, 1.25], mirror=False)
    row = run(digits, make_distilled(), network, augment=crop, fit=fit)
    assert row.num_networks == 2
    assert row.accuracy_std is not None and row.accuracy_std > 0
    assert row.accuracy_mean > 0.3
    assert row == run(digits, make_distilled(), network, augment=crop, fit=fit)


def test_soft_labels_count(digits: RealData, make_distilled: Make, network: MLP) -> None:
    hard = make_distilled()
    same = make_distilled(labels=torch.eye(10)[hard.labels])
    none = make_distilled(labels=torch.full((40, 10), 0.1))
    assert run(digits, same, network) == run(digits, hard, network)
    assert run(digits, none, network).accuracy_mean < 0.2


@pytest.mark.parametrize("chosen_on", ["real", "distilled"])
def test_the_penalty_is_chosen_without_the_test_images(
    digits: RealData, make_distilled: Make, network: MLP, untouchable: Any, chosen_on: Any
) -> None:
    """A probe that is penalised beyond all measure, or not at all, is not taken."""
    probe = protocol(ridge_grid=[1e-12, 0.1, 1e6], chosen_on=chosen_on)
    whole = evaluator(network)
    context = whole._context(digits, network, untouchable)
    frozen = Frozen.of(network, INIT)
    phi, y = probe.examples(frozen, make_distilled(), context, 0)
    assert probe.penalty(phi, y, frozen, context) == 0.1
    thrice = phi.expand(3, -1, -1)  # the same views of an image are left out with it
    assert probe.penalty(thrice, y, frozen, context) == 0.1


def test_the_penalty_is_chosen_once_and_on_validation_images(
    real_data: Any, make_distilled: Make, network: MLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = real_data("digits", validation=0.2).load()
    looked_at = []

    def recorded(frozen: Frozen, data: RealData, split: Any) -> Features:
        looked_at.append(split)
        return Features(frozen, data, split)

    monkeypatch.setattr(ddist.evaluation.probe, "Features", recorded)
    crop = RandomResizedCrop(scale=[0.3, 1.0], ratio=[0.8, 1.25], mirror=False)
    row = run(data, make_distilled(), network, augment=crop, ridge_grid=[0.1, 1.0])
    assert row.num_networks == 2
    test, validation = looked_at
    assert test is data.test and validation is data.validation


def test_choices_and_all_images(digits: RealData, network: MLP) -> None:
    found = evaluator(network).choices(digits, [2] * 10)
    assert set(found) == {"nearest", "herding", "kmeans_embedding"}
    for rows in found.values():
        assert len(set(rows.tolist())) == 20
        assert digits.train.y[rows].tolist() == [c for c in range(10) for _ in range(2)]
    phi = features(digits, network, digits.train.x)
    means = torch.stack([phi[digits.train.y == c].mean(0) for c in range(10)])
    distance = (phi[found["nearest"]] - means.repeat_interleave(2, 0)).norm(dim=1)
    every = (phi - means[digits.train.y]).norm(dim=1)
    for c in range(10):
        own = every[digits.train.y == c].sort().values[:2]
        torch.testing.assert_close(distance[2 * c : 2 * c + 2], own, rtol=1e-5, atol=1e-6)
    row = evaluator(network).row_on_all_images("mlp", digits)
    expected = accuracy(digits, network, phi, digits.train.y, 0.1)
    assert row.accuracy_mean == pytest.approx(expected, abs=1e-9)


def test_weights_of_samples_are_refused(
    digits: RealData, make_distilled: Make, network: MLP
) -> None:
    with pytest.raises(DdistError, match="weights of samples"):
        run(digits, make_distilled(weights=torch.ones(40)), network)


def test_a_network_that_changes_is_refused(
    digits: RealData, make_distilled: Make, network: MLP
) -> None:
    with pytest.raises(DdistError, match="network=backbone"):
        run(digits, make_distilled(), network, init=Random("default", 0))


def test_features_are_computed_once(
    digits: RealData, network: MLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same images under the same network; others are others."""
    frozen = Frozen.of(network, INIT)
    first = Features(frozen, digits, digits.train).prepare()
    every = first.rows(torch.arange(len(first)))
    torch.testing.assert_close(every.double(), features(digits, network, digits.train.x))
    torch.testing.assert_close(torch.cat([phi for phi, _ in first.batches(500)]), every)
    other = Frozen.of(network, Fixed("default", 1))
    assert Features(other, digits, digits.train).shards.missing()
    assert Features(frozen, digits, digits.test).shards.missing()
    monkeypatch.setattr(Frozen, "in_parts", None)
    again = Features(Frozen.of(network, INIT), digits, digits.train).prepare()
    torch.testing.assert_close(again.rows(torch.tensor([5, 3])), every[[5, 3]], rtol=0, atol=0)


def test_the_signature_covers_what_changes_a_feature(network: MLP) -> None:
    """All weights but those of the head, and what is computed with them."""
    frozen = Frozen.of(network, INIT)
    other_head = frozen.weights | {"head.bias": frozen.weights["head.bias"] + 1}
    assert Frozen(network, other_head).signature == frozen.signature
    widths, shape = [len(frozen.weights["body.1.bias"])], network.image_shape
    tanh = Frozen(MLP(10, shape, widths, "tanh"), frozen.weights)
    relu = Frozen(MLP(10, shape, widths, "relu"), frozen.weights)
    assert relu.signature == frozen.signature != tanh.signature


def test_another_normalisation_has_other_features(digits: RealData, network: MLP) -> None:
    frozen = Frozen.of(network, INIT)
    Features(frozen, digits, digits.test).prepare()
    other = digits.normalized_by(MeanStd(torch.tensor([0.1]), torch.tensor([2.0])))
    assert not Features(frozen, digits, digits.test).shards.missing()
    assert Features(frozen, other, other.test).shards.missing()


def test_features_are_those_of_evaluation_mode(digits: RealData) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    network, x = Network(body, 10, digits.image_shape), digits.images(torch.arange(4))
    features = Frozen(network, dict(network.named_parameters()))
    assert torch.equal(features(x), x.flatten(1)) and torch.equal(
        features.in_parts(x), x.flatten(1)
    )


def test_features_that_are_no_numbers_are_refused(digits: RealData, network: MLP) -> None:
    weights = Frozen.of(network, INIT).weights
    broken = {name: w / 0 for name, w in weights.items()}
    with pytest.raises(DdistError, match=r"no finite numbers: its weights are damaged"):
        Features(Frozen(network, broken), digits, digits.test).prepare()


def test_damaged_features_are_made_anew(digits: RealData, network: MLP) -> None:
    features = Features(Frozen.of(network, INIT), digits, digits.test).prepare()
    before = features.rows(torch.arange(4))
    (file,) = features.shards.stems[0].parent.glob("*.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    again = Features(Frozen.of(network, INIT), digits, digits.test).prepare()
    torch.testing.assert_close(again.rows(torch.arange(4)), before, rtol=0, atol=0)


def test_the_command_shows_all_rows(ddist: Any) -> None:
    """Also of several networks."""
    words = ("network=mlp", "init=fixed", "dataset=digits", "evaluation.views=2", "compile=false")
    done = ddist(
        "method=lgm", *words, "ipc=1", "steps=2", "budget=null", "method.views=2",
        "paths.cache=cache",
        "evaluation.networks=[mlp,convnet]",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert done.code == 0, done.err
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    names = {"random", "nearest", "herding", "kmeans_embedding", "full_probe"}
    assert set(results["baselines"]) == names | {f"{name}:convnet" for name in names}
    assert [row["network"] for row in results["evaluation"]] == ["mlp", "convnet"]
    assert results["baselines"]["full_probe"]["accuracy_mean"] > 0.8
    assert "a probe on all" in done.out


def test_networks_and_precisions_that_it_cannot_have_are_refused_at_the_start(
    network: MLP,
) -> None:
    with pytest.raises(DdistError, match=r"network=backbone.*init\.fixed=true"):
        evaluator(network, Random("default", 0))
    with pytest.raises(DdistError, match=r"in 32 bits: leave evaluation\.precision=32-true"):
        Evaluator(protocol(), {"mlp": network}, INIT, seed=0, precision="bf16-mixed")
