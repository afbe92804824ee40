"""evaluation.labels=hard against a plain loop on the class that each soft label is likeliest to
mean."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddist.evaluation.training
from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Training
from ddist.evaluation.protocol import Context
from ddist.init import Random
from ddist.inner.stacking import member
from ddist.networks import MLP, Weights
from ddist.seeding import generator

Make = Callable[..., DistilledDataset]
EPOCHS, LR, MOMENTUM, WEIGHT_DECAY = 12, 0.05, 0.9, 5e-4
OPTIONS: dict[str, Any] = {
    "name": "plain", "num_networks": 1, "epochs": EPOCHS, "schedule": "constant",
    "loss": "cross_entropy", "batch_size": 256, "optimizer": "sgd", "lr": LR,
    "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "augment": None, "mix": None,
    "temperature": 1.0, "labels": "hard", "chunk": 20,
}  # fmt: skip


@pytest.fixture
def train(
    digits: RealData, network: MLP, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Weights]:
    """``train(distilled, **changes)``: the weights of the one network that the protocol trains."""
    kept: list[Weights] = []
    original = ddist.evaluation.training.accuracy

    def noted(network: nn.Module, weights: Weights, batches: Any, **options: Any) -> Tensor:
        kept.append(weights)
        return original(network, weights, batches, **options)

    monkeypatch.setattr(ddist.evaluation.training, "accuracy", noted)

    def run(distilled: DistilledDataset, **changes: Any) -> Weights:
        Training(**OPTIONS | changes).accuracies(
            distilled, Context(digits, digits.test, network, Random("default", 0), seed=0)
        )
        return member(kept.pop(), 0)

    return run


@pytest.fixture
def soft_labels() -> Tensor:
    """[40, 10]: probabilities whose largest is mostly not at the image's own class."""
    return (2 * torch.randn(40, 10, generator=generator(0, "labels"))).softmax(1)


def plain_loop(network: MLP, x: Tensor, y: Tensor, loss: str) -> MLP:
    """Full-batch SGD; ``loss`` "mse" is half the squared errors to the centred classes."""
    network.load_state_dict(member(Random("default", 0).held_out(network, 1), 0))
    sgd = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY)
    for _ in range(EPOCHS):
        sgd.zero_grad()
        logits = network(x)
        if loss == "mse":
            errors = logits - (nn.functional.one_hot(y, 10) - 0.1)
            (0.5 * errors.square().sum(1).mean()).backward()
        else:
            nn.functional.cross_entropy(logits, y).backward()
        sgd.step()
    return network


def assert_same(ours: Weights, theirs: nn.Module) -> None:
    for name, w in theirs.named_parameters():
        torch.testing.assert_close(ours[name], w.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_networks_learn_the_likeliest_class(
    make_distilled: Make, train: Any, network: MLP, soft_labels: Tensor, loss: str,
    temperature: float,
) -> None:  # fmt: skip
    """At temperature 1, whatever that of the protocol and that which a teacher gave them at."""
    meta = {**make_distilled().meta, "label_temperature": 20.0}
    distilled = make_distilled(labels=soft_labels, meta=meta)
    hardest = soft_labels.argmax(1)
    assert (hardest != make_distilled().labels).float().mean() > 0.5
    ours = train(distilled, loss=loss, temperature=temperature)
    assert_same(ours, plain_loop(network, distilled.images, hardest, loss))


def test_labels_of_regression_count_by_their_largest(
    make_distilled: Make, train: Any, network: MLP
) -> None:
    """Labels that are no probabilities: any numbers, as kernel methods learn them."""
    labels = torch.randn(40, 10, generator=generator(1, "labels"))
    distilled = make_distilled(labels=labels)
    ours = train(distilled)
    assert_same(ours, plain_loop(network, distilled.images, labels.argmax(1), "cross_entropy"))


def test_classes_stay_what_they_are(make_distilled: Make, train: Any, network: MLP) -> None:
    distilled = make_distilled()
    ours = train(distilled)
    own = train(distilled, labels="own")
    for name, w in own.items():
        assert torch.equal(ours[name], w)
    assert_same(ours, plain_loop(network, distilled.images, distilled.labels, "cross_entropy"))
