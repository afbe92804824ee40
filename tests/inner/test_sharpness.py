"""GSAM: against its equations on one flat vector, and K networks at once against one by one."""

from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.errors import DdistError
from ddist.init import Random
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.sharpness import flat_gradient
from ddist.inner.stacking import member
from ddist.networks import MLP, ConvNet, Network, Weights
from ddist.seeding import generator

SHAPE = (1, 8, 8)
FIELDS = {field.name for field in fields(TrainingRecipe)}


def toy() -> tuple[Tensor, Tensor]:
    x = torch.randn(12, *SHAPE, generator=generator(0, "toy"), dtype=torch.float64)
    return x, torch.arange(12) % 3


def by_the_equations(
    network: Network, start: Weights, x: Tensor, y: Tensor, rho: float, alpha: float, steps: int
) -> Tensor:
    """Gradient descent at 0.05 along GSAM's direction, all weights as one vector."""
    network.load_state_dict(start)
    parameters = list(network.parameters())

    def gradient(at: Tensor) -> Tensor:
        torch.nn.utils.vector_to_parameters(at, parameters)
        found = torch.autograd.grad(F.cross_entropy(network(x), y), parameters)
        return torch.cat([g.flatten() for g in found])

    w = torch.cat([p.detach().flatten() for p in parameters])
    for _ in range(steps):
        g = gradient(w)
        sharp = gradient(w + rho * g / g.norm())
        direction = sharp / sharp.norm()
        orthogonal = g - (g @ direction) * direction
        assert abs(orthogonal @ sharp) < 1e-12
        w = w - 0.05 * (sharp - alpha * orthogonal)
    return w


def train(network: Network, weights: Weights, **changes: object) -> Weights:
    x, y = toy()
    num = len(next(iter(weights.values())))
    options: dict[str, object] = {
        "epochs": 4,
        "batch_size": 100,
        "optimizer": "sgd",
        "lr": 0.05,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "rho": 0.3,
        "alpha": 0.7,
        "generators": [generator(1, k) for k in range(num)],
    }
    options |= changes
    settings = {key: options.pop(key) for key in FIELDS & options.keys()}
    return fit(network, weights, x, y, TrainingRecipe(**settings), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize(("rho", "alpha"), [(0.3, 0.7), (0.3, 0.0), (0.01, 1.0)])
def test_training_follows_the_equations(stacked: bool, rho: float, alpha: float) -> None:
    network = MLP(3, SHAPE, [8], "tanh").double()
    weights = Random("default", 0).draw(network, 2)
    found = train(network, weights, rho=rho, alpha=alpha, stacked=stacked)
    for k in range(2):
        expected = by_the_equations(network, member(weights, k), *toy(), rho, alpha, steps=4)
        flat = torch.cat([w.flatten() for w in member(found, k).values()])
        torch.testing.assert_close(flat, expected, rtol=1e-12, atol=1e-14)


def test_together_equals_one_by_one_on_batches_of_their_own() -> None:
    network = ConvNet(3, SHAPE, 1, 4, norm="instance", pooling="avg", activation="relu").double()
    weights = Random("default", 0).draw(network, 3)
    together = train(network, weights, batch_size=5, stacked=True)
    alone = train(network, weights, batch_size=5, stacked=False)
    plain = train(network, weights, batch_size=5, rho=0.0)
    for name, w in together.items():
        torch.testing.assert_close(w, alone[name], rtol=1e-10, atol=1e-12)
    assert any((w - plain[name]).abs().max() > 1e-5 for name, w in together.items())


def test_without_rho_it_is_one_plain_gradient() -> None:
    asked: list[Weights] = []

    def gradient(at: Weights) -> Weights:
        asked.append(at)
        return {"w": 2 * at["w"]}

    weights = {"w": torch.ones(2, 3)}
    assert torch.equal(flat_gradient(gradient, weights, 0.0, 1.0)["w"], 2 * weights["w"])
    assert len(asked) == 1


def test_a_gradient_of_zero_stays_zero() -> None:
    weights = {"w": torch.zeros(2, 3)}
    found = flat_gradient(lambda at: {"w": 0 * at["w"]}, weights, 0.1, 1.0)
    assert torch.equal(found["w"], weights["w"])


def test_running_statistics_are_refused() -> None:
    network = ConvNet(3, SHAPE, 1, 4, norm="batch", pooling="avg", activation="relu").double()
    with pytest.raises(DdistError, match=r"network\.norm=instance"):
        train(network, Random("default", 0).draw(network, 1))
