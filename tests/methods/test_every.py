"""What every method does between outer steps: bounded images stay in range, and bf16 reaches the
students that are trained."""

from functools import partial
from math import isfinite
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddist.methods import Method
from tests.methods.every import METHODS, Run

pytestmark = pytest.mark.slow  # each composes, builds or trains

CONVNET = ("network=convnet", "network.depth=1", "network.width=4")


@pytest.mark.parametrize("name", METHODS)
def test_bounded_images_are_in_range_at_every_step(name: str, make_every: Any) -> None:
    """Whatever an outer step has made of them, and in what is kept at the end; without
    synthetic.bounded they stay as they are."""
    for bounded in (True, False):
        method = Run(make_every(name, f"synthetic.bounded={bounded}"), 0).method
        images: Tensor = method.synthetic.stored()[0]
        for kept in (False, True):
            with torch.no_grad():
                images[0] += 100
                images[1] -= 100
            assert beyond(method) > 1
            if kept:
                method.tensors()
            else:
                method.on_train_batch_start((torch.empty(0), torch.empty(0)), 0)
            assert (beyond(method) < 1e-4) == bounded


def beyond(method: Method) -> float:
    """How far the images leave the range of pixels."""
    pixels = method.data.normalization.inverse(method.synthetic.stored()[0].detach())
    return float((pixels - pixels.clamp(0, 1)).abs().max())


@pytest.mark.parametrize("name", ["dc", "dsa", "idc", "cafe", "frepo"])
def test_bf16_reaches_the_students_that_are_trained(name: str, make_every: Any) -> None:
    """trainer.precision=bf16-mixed: their passes have it outside of Lightning's own."""
    seen: dict[str, list[torch.dtype]] = {"32-true": [], "bf16-mixed": []}
    for precision, dtypes in seen.items():
        run = Run(make_every(name, *CONVNET, f"trainer.precision={precision}"), 0)
        head = run.method.network.head
        assert isinstance(head, nn.Module)
        head.register_forward_hook(partial(note, dtypes))
        assert all(map(isfinite, run.losses()))
    assert set(seen["32-true"]) == {torch.float32}
    assert torch.bfloat16 in seen["bf16-mixed"]


def note(dtypes: list[torch.dtype], layer: nn.Module, inputs: Any, output: Tensor) -> None:
    dtypes.append(output.dtype)
