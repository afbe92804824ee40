"""The pool: each network as torch would train it alone, and none disturbed by another."""

import pytest
import torch
from torch import Tensor

from ddist.init import Random
from ddist.inner.pool import Pool
from ddist.inner.stacking import member
from ddist.networks import ConvNet, Weights
from ddist.seeding import generator

SHAPE = (1, 8, 8)


@pytest.fixture
def network() -> ConvNet:
    return ConvNet(
        3, SHAPE, depth=2, width=[4, 6], norm="batch", pooling="avg", activation="relu"
    ).double()


@pytest.fixture
def weights(network: ConvNet) -> Weights:
    return Random("default", 0).draw(network, 3, 0, 0)


@pytest.fixture
def pool(network: ConvNet, weights: Weights) -> Pool:
    return Pool(network, weights, torch.tensor([0, 4, 8]), lr=0.01, momentum=0.9)


def batch(step: int) -> tuple[Tensor, Tensor]:
    stream = generator(0, "batch", step)
    x = torch.randn(5, *SHAPE, generator=stream, dtype=torch.float64)
    return x, torch.randn(5, 3, generator=stream, dtype=torch.float64)


def alone(weights: Weights, k: int, steps: list[int]) -> ConvNet:
    """Network k as torch trains a module, on the batches of these steps."""
    student = ConvNet(
        3, SHAPE, depth=2, width=[4, 6], norm="batch", pooling="avg", activation="relu"
    ).double()
    student.load_state_dict(member(weights, k), strict=False)
    for block in student.body:
        block[1].momentum = 0.9
    adam = torch.optim.Adam(student.parameters(), 0.01)
    for step in steps:
        x, y = batch(step)
        adam.zero_grad()
        (0.5 * (student(x) - y).square().sum(1)).mean().backward()
        adam.step()
    return student


def assert_is(found: Weights, student: ConvNet) -> None:
    expected = student.state_dict()
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12)


def test_each_network_is_trained_as_if_alone(pool: Pool, weights: Weights) -> None:
    before = {name: w.clone() for name, w in weights.items()}
    order = [0, 1, 0, 0, 1, 0]
    for step, k in enumerate(order):
        pool.train(k, *batch(step))
    for k in range(3):
        steps = [step for step, each in enumerate(order) if each == k]
        assert_is(pool.weights(k), alone(weights, k, steps))
    assert pool.ages.tolist() == [4, 6, 8]
    assert all(torch.equal(w, before[name]) for name, w in weights.items())  # copied
    assert pool.network.training and pool.network.body[0][1].momentum == 0.1


def test_a_replaced_network_starts_anew(pool: Pool, network: ConvNet) -> None:
    for step in range(3):
        pool.train(step % 2, *batch(step))
    kept = {name: w[1].clone() for name, w in pool.state().items()}
    fresh = Random("default", 0).draw(network, 1, 0, 7)
    pool.replace(0, fresh)
    assert all(torch.equal(w[1], kept[name]) for name, w in pool.state().items())
    assert pool.ages.tolist() == [0, 5, 8]
    assert_is(pool.weights(0), alone(fresh, 0, []))
    for step in (4, 5):
        pool.train(0, *batch(step))
    assert_is(pool.weights(0), alone(fresh, 0, [4, 5]))


def test_its_state_goes_on_with_the_same_bits(
    pool: Pool, network: ConvNet, weights: Weights
) -> None:
    pool.train(2, *batch(0))
    saved = {name: w.clone() for name, w in pool.state().items()}
    other = Pool(
        network, {n: w.flip(0) for n, w in weights.items()}, torch.zeros(3).long(), 0.01, 0.9
    )
    other.load(saved)
    for each in (pool, other):
        each.train(2, *batch(1))
        each.train(0, *batch(2))
    pairs = zip(pool.state().values(), other.state().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(not torch.equal(w, pool.state()[name]) for name, w in saved.items())


def test_mixed_precision_is_near_and_keeps_the_weights_whole(
    network: ConvNet, weights: Weights
) -> None:
    network = network.float()
    weights = {name: w.float() for name, w in weights.items()}
    pools = [Pool(network, weights, torch.zeros(3).long(), lr=0.01, momentum=0.9) for _ in range(2)]
    x, y = (each.float() for each in batch(0))
    pools[0].train(0, x, y)
    pools[1].train(0, x, y, "bf16-mixed")
    exact, mixed = (pool.state()["first.head.weight"][0] for pool in pools)
    assert 0 < (exact - mixed).norm() < 0.05 * exact.norm()
    assert all(w.dtype == torch.float32 for w in pools[1].parameters.values())
