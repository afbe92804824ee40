"""Methods built from values, as a REPL would, on the bundled digits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from ddist.data import RealData
from ddist.evaluation import Replay
from ddist.init import Random
from ddist.methods import DD
from ddist.networks import MLP
from ddist.objectives import classification
from ddist.synthetic import Pixel

PIXEL = partial(
    Pixel, start="noise", images="learned", labels="hard", label_logit=5.0, factor=1, bounded=False
)


@pytest.fixture
def common(digits: RealData) -> dict[str, Any]:
    """What every method is given."""
    return {
        "data": digits,
        "network": MLP(10, digits.image_shape, widths=[12], activation="relu"),
        "init": Random("xavier_normal", 0),
        "synthetic": PIXEL,
        "seed": 0,
    }


@pytest.fixture
def make_dd(common: dict[str, Any]) -> Callable[..., DD]:
    def make(**changes: Any) -> DD:
        options: dict[str, Any] = {
            "ipc": 2,
            "student_steps": 2,
            "student_epochs": 3,
            "step_size": 0.1,
            "num_networks": 1,
            "unroll": "checkpoint",
            "window": None,
            "objective": classification,
            "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.999)),
            "scheduler": None,
            "lr": {"images": 0.03, "labels": 0.03, "step_sizes": 0.03},
        }
        return DD(**(common | options | changes))

    return make


@pytest.fixture
def make_judge() -> Callable[..., Replay]:
    def make(**changes: Any) -> Replay:
        options: dict[str, Any] = {
            "name": "replay",
            "num_networks": 10,
            "step_size_grid": [0.03, 0.1, 0.3],
            "epoch_grid": [1, 5],
            "tuning_networks": 5,
            "tuning_images": 500,
            "chunk": 5,
        }
        return Replay(**(options | changes))

    return make
