"""Labels of regression as probabilities."""

import torch
from torch import Tensor

from ddist.probabilities import are_probabilities, nearest_probabilities


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_probabilities_stay_as_they_are_bit_for_bit() -> None:
    soft = torch.cat([draw(50, 7).softmax(1), torch.eye(7)])
    assert are_probabilities(soft).all()
    assert torch.equal(nearest_probabilities(soft), soft)


def test_others_become_the_nearest_ones() -> None:
    """No probabilities that are drawn at random are nearer, nor are any beside those found."""
    labels = 2 * draw(20, 4, seed=1).double()
    assert not are_probabilities(labels).any()
    found = nearest_probabilities(labels)
    assert are_probabilities(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(20).double())
    distance = (labels - found).norm(dim=1)
    for seed in range(200):
        other = (3 * draw(20, 4, seed=2 + seed).double()).softmax(1)
        for share in (1.0, 0.01):
            mixed = torch.lerp(found, other, share)
            assert ((labels - mixed).norm(dim=1) > distance - 1e-12).all()


def test_a_known_case() -> None:
    labels = torch.tensor([[1.2, -0.3, 0.1], [0.6, 0.6, 0.0], [5.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(nearest_probabilities(labels), expected)
