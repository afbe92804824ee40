"""Normalisation is fitted on training images alone: neither those of validation nor of the test
split count, against numpy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddist.data import RealData
from ddist.data.sources.base import Arrays, Request


def numpy_state(x: torch.Tensor, kind: str) -> dict[str, NDArray[np.float64]]:
    pixels = x.numpy().astype(np.float64) / 255
    if kind == "mean_std":
        return {"mean": pixels.mean((0, 2, 3)), "std": pixels.std((0, 2, 3))}
    flat = pixels.reshape(len(pixels), -1)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    return {"mean": flat.mean(0), "whiten": (vectors / np.sqrt(values + 0.1)) @ vectors.T}


@pytest.mark.parametrize("options", [{}, {"validation": 0.4}, {"subset": 30},
                                     {"subset": 30, "validation": 0.4}], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", ["mean_std", "zca"])
def test_it_is_numpys_of_the_training_images(
    real_data: Callable[..., RealData], kind: str, options: dict[str, Any]
) -> None:
    data = real_data("digits", normalize=kind, **options).load()
    state = data.normalization.state()
    for name, expected in numpy_state(data.train.x, kind).items():
        np.testing.assert_allclose(state[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean_std", "zca"])
def test_images_of_validation_and_test_change_nothing(
    real_data: Callable[..., RealData], kind: str
) -> None:
    """The same run on data whose held-out images are others."""
    plain = real_data("digits", normalize=kind, validation=0.4)
    seen = {image.numpy().tobytes() for image in plain.load().train.x}
    other = real_data("digits", normalize=kind, validation=0.4)
    source = other._source

    def changed(request: Request) -> Arrays:
        found = source(request)
        held_out = torch.tensor([image.numpy().tobytes() not in seen for image in found.x_train])
        x_train = found.x_train.clone()
        x_train[held_out] = 255
        return replace(found, x_train=x_train, x_test=torch.zeros_like(found.x_test))

    other._source = changed
    other.load()
    assert other.validation is not None and (other.validation.x == 255).all()
    assert torch.equal(other.train.x, plain.train.x)
    states = plain.normalization.state(), other.normalization.state()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        same = torch.equal(value, states[1][name]) if name != "kind" else value == states[1][name]
        assert same
