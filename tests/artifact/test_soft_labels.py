"""Labels of regression as probabilities."""

import pytest
import torch
from torch import Tensor

from ddist.artifact.soft_labels import (
    are_probabilities,
    at_temperature,
    keep_top,
    nearest_probabilities,
    restore_top,
)


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


def test_temperatures_are_changed_without_the_logits() -> None:
    logits = 5 * draw(7, 4).double()
    for had, wanted in ((1.0, 20.0), (20.0, 1.0), (3.0, 3.0)):
        found = at_temperature((logits / had).softmax(1), had, wanted)
        torch.testing.assert_close(
            found, (logits / wanted).softmax(1).float(), rtol=1e-4, atol=1e-6
        )
    half = at_temperature((logits / 20).softmax(1).half(), 20.0, 1.0)
    assert float((half - logits.softmax(1)).abs().max()) < 0.01


@pytest.mark.parametrize(
    ("num_classes", "dtype"), [(10, torch.uint8), (256, torch.uint8), (1000, torch.int16)]
)
def test_the_largest_are_kept_and_the_rest_is_spread(num_classes: int, dtype: torch.dtype) -> None:
    p = draw(5, num_classes).softmax(1)
    values, indices = keep_top(p, 4)
    assert (values.dtype, indices.dtype) == (torch.float16, dtype)
    dense = restore_top(values, indices, num_classes)
    for row, of, at in zip(dense.float(), p, indices.long(), strict=True):
        kept = sorted(range(num_classes), key=lambda k: -float(of[k]))[:4]
        assert at.tolist() == kept
        torch.testing.assert_close(row[kept], of[kept], rtol=1e-3, atol=0)
        others = [k for k in range(num_classes) if k not in kept]
        rest = (1 - float(of[kept].sum())) / len(others)
        torch.testing.assert_close(row[others], torch.full((len(others),), rest), rtol=5e-3, atol=0)
    again = restore_top(*keep_top(dense, 4), num_classes)
    assert torch.equal(again, dense)
