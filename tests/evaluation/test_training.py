"""dc2021 against the loop of DC's code (VICO-UoE/DatasetCondensation, utils.evaluate_synset)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddist.evaluation.training
from ddist.artifact import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Training
from ddist.init import Fixed, Random
from ddist.inner.stacking import member
from ddist.networks import MLP, ConvNet, Weights

Make = Callable[..., DistilledDataset]
OPTIONS: dict[str, Any] = {
    "name": "dc2021",
    "num_networks": 2,
    "epochs": 20,
    "batch_size": 256,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "chunk": 20,
}


def reference(network: nn.Module, x: Tensor, y: Tensor, reset: bool = True) -> nn.Module:
    """evaluate_synset and epoch('train') of the authors' code for one full batch. ``reset=False``
    leaves the momentum buffer at the drop, which their code does not."""
    lr, epochs = OPTIONS["lr"], OPTIONS["epochs"]
    lr_schedule = [epochs // 2 + 1]
    options = {"momentum": OPTIONS["momentum"], "weight_decay": OPTIONS["weight_decay"]}
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, **options)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs + 1):
        loss = criterion(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch in lr_schedule:
            lr *= 0.1
            if reset:
                optimizer = torch.optim.SGD(network.parameters(), lr=lr, **options)
            optimizer.param_groups[0]["lr"] = lr
    return network


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The weights that a protocol trained, chunk by chunk."""
    kept: list[Weights] = []
    original = ddist.evaluation.training.accuracy

    def noted(network: nn.Module, weights: Weights, batches: Any) -> Tensor:
        kept.append(weights)
        return original(network, weights, batches)

    monkeypatch.setattr(ddist.evaluation.training, "accuracy", noted)
    return kept


def furthest(ours: Weights, k: int, theirs: nn.Module) -> float:
    """Largest difference of any weight."""
    return max(
        float((ours[name][k] - w.detach()).abs().max()) for name, w in theirs.named_parameters()
    )


@pytest.mark.parametrize("kind", ["mlp", "convnet"])
def test_it_is_the_papers_loop(
    digits: RealData, network: nn.Module, make_distilled: Make, trained: list[Weights], kind: str
) -> None:
    if kind == "convnet":
        options = {"norm": "instance", "pooling": "avg", "activation": "relu"}
        network = ConvNet(10, digits.image_shape, depth=2, width=8, **options)
    distilled = make_distilled()
    found, chosen = Training(**OPTIONS).accuracies(
        distilled, digits, digits.test, network, Fixed("xavier_normal", 0), seed=3
    )
    assert chosen == {} and found.shape == (2,)
    start = Random("default", 3).held_out(network, 2)  # whatever the run's own init is
    (ours,) = trained
    for k in range(2):
        network.load_state_dict(member(start, k))
        student = reference(network, distilled.images, distilled.labels)
        assert furthest(ours, k, student) < 1e-4
        with torch.no_grad():
            right = student(digits.normalization(digits.test.x)).argmax(1) == digits.test.y
        assert abs(float(found[k]) - float(right.double().mean())) <= 1 / len(digits.test)
    assert found.min() > 0.5 and found[0] != found[1]


def test_the_momentum_buffer_is_fresh_after_the_drop(
    digits: RealData, network: MLP, make_distilled: Make, trained: list[Weights]
) -> None:
    """So that the test above would see the difference."""
    distilled = make_distilled()
    start = Random("default", 0).held_out(network, 2)
    Training(**OPTIONS).accuracies(
        distilled, digits, digits.test, network, Random("default", 0), seed=0
    )
    network.load_state_dict(member(start, 0))
    kept = reference(network, distilled.images, distilled.labels, reset=False)
    assert furthest(trained[0], 0, kept) > 1e-3


@pytest.mark.parametrize("batch_size", [16, 256])
def test_chunks_change_no_number(
    digits: RealData, network: MLP, make_distilled: Make, batch_size: int
) -> None:
    """Not even with minibatches, whose order each network draws for itself."""
    distilled = make_distilled()
    together, apart = (
        Training(**OPTIONS | {"num_networks": 5, "chunk": chunk, "batch_size": batch_size})
        .accuracies(distilled, digits, digits.test, network, Random("default", 0), seed=0)[0]
        for chunk in (5, 2)
    )  # fmt: skip
    torch.testing.assert_close(together, apart, rtol=0, atol=1 / len(digits.test))


def test_sample_weights_and_soft_labels_count(
    digits: RealData, network: MLP, make_distilled: Make, trained: list[Weights]
) -> None:
    """Weight 2 for half of the images and 0 for the others is training on that half."""
    labels = nn.functional.one_hot(make_distilled().labels, 10).float()
    half = torch.arange(40) % 2 == 0
    weighed = make_distilled(labels=labels, weights=2.0 * half)
    alone = make_distilled(images=weighed.images[half], labels=labels[half], step_index=None)
    for each in (weighed, alone):
        Training(**OPTIONS).accuracies(
            each, digits, digits.test, network, Random("default", 0), seed=0
        )
    for name in trained[0]:
        torch.testing.assert_close(trained[0][name], trained[1][name], rtol=1e-3, atol=1e-5)
