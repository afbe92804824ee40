"""Adversarial images: within their ball, worse for the network, and none at eps 0."""

from dataclasses import replace

import pytest
import torch

from ddist.errors import DdistError
from ddist.evaluation import Evaluator, NearestNeighbours, Training
from ddist.evaluation.attacks import Attacks, attacks_of, fgsm, loss_gradient, pgd
from ddist.init import Random
from ddist.inner.predict import accuracy
from ddist.inner.stacking import member
from ddist.seeding import generator
from ddist.tasks.config import read_option
from ddist.tasks.targets import make

BOTH = Attacks(("fgsm", "pgd"), eps=0.1, steps=5, images=60)


@pytest.fixture
def linear(digits, network):
    """Two stacked students and what gives the gradient of the first at some pixels."""
    weights = Random("default", 0).held_out(network, 2)
    x, y = digits.test.x[::15].float() / 255, digits.test.y[::15]
    gradient = lambda pixels: loss_gradient(  # noqa: E731
        network, member(weights, 0), digits.normalization, y, pixels
    )
    return weights, x, y, gradient


def test_the_gradient_is_that_of_finite_differences(digits, network, linear) -> None:
    _, x, y, gradient = linear
    weights = {k: w.double() for k, w in member(linear[0], 0).items()}

    def loss(pixels):
        space = (pixels - digits.normalization.mean.double()) / digits.normalization.std.double()
        logits = torch.func.functional_call(network.double(), weights, (space,))
        return torch.nn.functional.cross_entropy(logits, y, reduction="sum")

    there = gradient(x)
    step = torch.zeros_like(x).double()
    step[3, 0, 4, 4] = 1e-5
    numerical = (loss(x.double() + step) - loss(x.double() - step)) / 2e-5
    assert float(there[3, 0, 4, 4]) == pytest.approx(float(numerical), rel=1e-3)


def test_images_move_within_the_ball_and_the_range(linear) -> None:
    _, x, _, gradient = linear
    for eps in (0.0, 0.05, 1.0):
        for moved in (fgsm(gradient, x, eps), pgd(gradient, x, eps, 7, generator(0))):
            assert ((moved - x).abs() <= eps + 1e-6).all()
            assert ((moved >= 0) & (moved <= 1)).all()
            assert torch.equal(moved, x) == (eps == 0)


def test_fgsm_on_a_linear_network_is_the_worst_in_the_ball(digits) -> None:
    """Its loss grows along w_true - w_other, so that no random corner of the ball has a larger."""
    from ddist.networks import MLP

    network = MLP(10, digits.image_shape, widths=[], activation="relu")
    weights = member(Random("default", 0).held_out(network, 1), 0)
    x, y = torch.full((1, 1, 8, 8), 0.5), torch.tensor([3])

    def loss(pixels):
        logits = torch.func.functional_call(network, weights, (digits.normalization(pixels),))
        return torch.nn.functional.cross_entropy(logits, y).item()

    gradient = lambda p: loss_gradient(network, weights, digits.normalization, y, p)  # noqa: E731
    worst = loss(fgsm(gradient, x, 0.01))
    for k in range(50):
        corner = torch.rand(x.shape, generator=generator(k)).sub(0.5).sign() * 0.01
        assert loss(x + corner) < worst
    assert loss(pgd(gradient, x, 0.01, 20, generator(0))) == pytest.approx(worst, rel=1e-4)


def test_accuracies_under_attack(digits, network) -> None:
    weights = Random("default", 0).held_out(network, 2)
    found = BOTH.accuracies(network, weights, digits, digits.test, seed=0)
    places = torch.linspace(0, len(digits.test) - 1, 60).round().long()
    clean = accuracy(network, weights, digits.batches(digits.test.take(places), 25))
    torch.testing.assert_close(found["clean"], clean)
    none = replace(BOTH, eps=0.0).accuracies(network, weights, digits, digits.test, seed=0)
    assert all(torch.equal(none[name], clean) for name in ("fgsm", "pgd"))


def test_trained_networks_lose_accuracy(digits, network, make_distilled) -> None:
    settings = {"num_networks": 3, "epochs": 60, "lr": 0.1}
    protocol = make({**read_option("evaluation", "dc2021"), **settings})
    assert isinstance(protocol, Training)
    evaluator = Evaluator(protocol, {"mlp": network}, Random("default", 0), 0, attacks=BOTH)
    row = evaluator.row("mlp", make_distilled(), digits)
    assert row.robust["clean"] > 0.5 and row.robust["clean"] > row.robust["fgsm"] + 0.05
    assert row.robust["fgsm"] >= row.robust["pgd"] - 0.02
    assert row.to_dict()["robust"] == row.robust
    plain = Evaluator(protocol, {"mlp": network}, Random("default", 0), 0)
    other = plain.row("mlp", make_distilled(), digits)
    assert other.accuracy_mean == row.accuracy_mean and "robust" not in other.to_dict()


def test_protocols_without_networks_cannot_be_attacked(network) -> None:
    protocol = make(read_option("evaluation", "knn"))
    assert isinstance(protocol, NearestNeighbours)
    with pytest.raises(DdistError, match="trains no networks that could be attacked"):
        Evaluator(protocol, {"mlp": network}, Random("default", 0), 0, attacks=BOTH)


def test_attacks_by_their_settings() -> None:
    settings = {"attacks": "pgd", "eps": 0.1, "steps": 5, "images": 60}
    assert attacks_of(settings) == replace(BOTH, names=("pgd",))
    assert attacks_of({**settings, "attacks": ["fgsm", "pgd"]}) == BOTH
    assert attacks_of({**settings, "attacks": None}) is None
