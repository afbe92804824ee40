"""A small distilled set of digits and a small student to evaluate it with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.networks import MLP
from ddist.seeding import generator
from ddist.synthetic.start import start_images
from ddist.synthetic.steps import spread_over_steps


@pytest.fixture
def network(digits: RealData) -> MLP:
    return MLP(10, digits.image_shape, widths=[16], activation="relu")


@pytest.fixture
def make_distilled(digits: RealData) -> Callable[..., DistilledDataset]:
    """Four real images per class in two steps, without learned step sizes."""

    def make(**changes: Any) -> DistilledDataset:
        labels, step_index = spread_over_steps(4, 10, 2)
        fields: dict[str, Any] = {
            "images": start_images("real", digits, labels, generator(0, "test")),
            "labels": labels,
            "step_index": step_index,
            "normalization": digits.normalization.state(),
            "meta": {
                "dataset": "digits",
                "method": "random",
                "ipc": 4,
                "num_classes": 10,
                "class_names": digits.class_names,
                "image_shape": digits.image_shape,
            },
            "config": "",
        }
        return DistilledDataset(**(fields | changes))

    return make


class Untouchable:
    """A split that may not be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was touched ({name})")


@pytest.fixture
def untouchable() -> Untouchable:
    return Untouchable()


@pytest.fixture
def step_sizes() -> torch.Tensor:
    """[E, S] = [3, 2], all different."""
    return torch.tensor([[0.3, 0.2], [0.25, 0.15], [0.1, 0.05]])
