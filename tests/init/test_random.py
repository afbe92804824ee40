"""Draws of untrained weights: their distributions, and what they depend on."""

from math import sqrt

import pytest
import torch
from torch import nn

from ddist.errors import DdistError
from ddist.init import Fixed, Random
from ddist.networks import ConvNet, LeNet, Weights

MNIST = (1, 28, 28)


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def lenet() -> LeNet:
    return LeNet(10, MNIST)


def test_a_draw_depends_on_its_keys_alone(lenet: LeNet) -> None:
    random = Random("xavier_normal", 3)
    first = random.draw(lenet, 2, 0, 17)
    torch.randn(5)
    random.draw(lenet, 1, 0, 18)
    assert equal(first, Random("xavier_normal", 3).draw(lenet, 2, 0, 17))
    for other in (
        random.draw(lenet, 2, 0, 18),
        random.draw(lenet, 2, 1, 17),
        random.held_out(lenet, 2),
        Random("xavier_normal", 4).draw(lenet, 2, 0, 17),
    ):
        assert not torch.equal(other["head.weight"], first["head.weight"])


def test_members_differ_and_do_not_depend_on_their_number(lenet: LeNet) -> None:
    random = Random("xavier_normal", 0)
    few, many = random.draw(lenet, 2, 5), random.draw(lenet, 4, 5)
    assert equal(few, {name: w[:2] for name, w in many.items()})
    assert not torch.equal(many["head.weight"][0], many["head.weight"][1])


@pytest.mark.parametrize("scheme", ["xavier_normal", "default"])
def test_nothing_else_is_touched(lenet: LeNet, scheme: str) -> None:
    before = {name: p.clone() for name, p in lenet.named_parameters()}
    state = torch.random.get_rng_state()
    drawn = Random(scheme, 0).draw(lenet, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in lenet.named_parameters())
    assert {n: w.shape for n, w in drawn.items()} == {n: (3, *p.shape) for n, p in before.items()}
    assert not any(w.requires_grad for w in drawn.values())


def test_xavier_normal_has_the_papers_moments(lenet: LeNet) -> None:
    drawn = Random("xavier_normal", 0).draw(lenet, 50)
    for name, parameter in lenet.named_parameters():
        if name.endswith("bias"):
            assert not drawn[name].any()
            continue
        receptive = parameter[0][0].numel()
        fan_in, fan_out = parameter.shape[1] * receptive, parameter.shape[0] * receptive
        expected = sqrt(2 / (fan_in + fan_out))
        assert float(drawn[name].std()) == pytest.approx(expected, rel=0.04)
        assert abs(float(drawn[name].mean())) < 5 * expected / sqrt(drawn[name].numel())


def test_default_is_torchs_own_distribution() -> None:
    drawn = Random("default", 0).draw(LeNet(10, MNIST), 200)
    reference = [dict(LeNet(10, MNIST).named_parameters()) for _ in range(200)]
    for name, weights in drawn.items():
        theirs = torch.stack([one[name].detach() for one in reference])
        assert float(weights.std()) == pytest.approx(float(theirs.std()), rel=0.05)
        assert float(weights.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.05)


def test_normalisation_starts_as_the_identity() -> None:
    network = ConvNet(10, MNIST, 2, 4, "instance", "avg", "relu")
    drawn = Random("default", 0).draw(network, 2)
    assert (drawn["body.0.1.weight"] == 1).all() and not drawn["body.0.1.bias"].any()


def test_fixed_is_one_point(lenet: LeNet) -> None:
    fixed = Fixed("xavier_normal", 0)
    drawn = fixed.draw(lenet, 3, 0, 1)
    assert equal(drawn, fixed.draw(lenet, 3, 1, 99))
    held_out = fixed.held_out(lenet, 200)
    assert len(held_out["head.weight"]) == 1
    for k in range(3):
        assert equal({n: w[k : k + 1] for n, w in drawn.items()}, held_out)
    drawn["head.weight"][0].zero_()  # members are copies, not views of each other
    assert drawn["head.weight"][1].any()


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class ResettingScale(Scale):
    def reset_parameters(self) -> None:
        nn.init.uniform_(self.scale, 2.0, 3.0)


def test_unknown_modules_draw_by_their_own_reset() -> None:
    network = nn.Sequential(nn.Linear(4, 4), ResettingScale())
    drawn = Random("xavier_normal", 0).draw(network, 2)
    assert equal(drawn, Random("xavier_normal", 0).draw(network, 2))
    assert (drawn["1.scale"] >= 2).all() and not torch.equal(*drawn["1.scale"])
    with pytest.raises(DdistError, match=r"Scale \(1\.scale\).*reset_parameters"):
        Random("xavier_normal", 0).draw(nn.Sequential(nn.Linear(4, 4), Scale()), 1)
