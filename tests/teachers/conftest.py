"""A small teacher of the digits."""

from collections.abc import Callable
from typing import Any

import pytest

from ddist.data import RealData
from ddist.networks import ConvNet
from ddist.teachers import Trained

RECIPE: dict[str, Any] = {
    "scheme": "default", "train_per_class": None, "epochs": 3, "schedule": "cosine",
    "batch_size": 64, "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4,
    "augment": None,
}  # fmt: skip


@pytest.fixture
def small_network(digits: RealData) -> Callable[[], ConvNet]:
    """Makes a ConvNet with batch normalisation for the digits."""
    return lambda: ConvNet(10, digits.image_shape, 2, 8, "batch", "avg", "relu")


@pytest.fixture
def make_teacher(digits: RealData, small_network: Callable[[], ConvNet]) -> Callable[..., Trained]:
    def make(**changes: Any) -> Trained:
        return Trained(**{"network": small_network(), "source": digits, **RECIPE, **changes})

    return make
