"""Datasets from functions of somebody's own, in the arrays that people have."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ddist.data.sources import Arrays
from ddist.data.sources.convert import as_arrays, as_images
from ddist.errors import DdistError

X = torch.randint(256, (6, 3, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
Y = torch.tensor([0, 1, 2, 0, 1, 2])
GIVEN = Arrays(X, Y, X[:3], Y[:3], ("a", "b", "c"))
Given = Callable[[], Any]


@pytest.mark.parametrize("images", [
    X, X / 255, (X / 255).double().numpy(), (X / 255).half(), X.numpy(), X.tolist(), X.int(),
    X.permute(0, 2, 3, 1), X.permute(0, 2, 3, 1).numpy().astype(np.float32) / 255,
])  # fmt: skip
@pytest.mark.parametrize("labels", [Y, Y.int(), Y.numpy(), Y.tolist(), Y.numpy().astype(np.uint8)])
def test_images_and_labels_are_the_same_whatever_they_are_in(images: Any, labels: Any) -> None:
    found = as_arrays("mine", replace(GIVEN, x_train=images, y_train=labels))
    assert found.x_train.dtype == torch.uint8 and torch.equal(torch.as_tensor(found.x_train), X)
    assert found.y_train.dtype == torch.int64 and torch.equal(found.y_train, Y)
    assert found.class_names == ("a", "b", "c")


def test_grey_images_need_no_channel() -> None:
    assert torch.equal(as_images("x", X[:, 0].numpy()), X[:, :1])


@pytest.mark.parametrize("given", [
    (X, Y, X[:3], Y[:3]), [X, Y, X[:3], Y[:3], ["0", "1", "2"]], ((X, Y), (X[:3], Y[:3])),
    {"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": Y[:3]},
    replace(GIVEN, class_names=[0, 1, 2]), replace(GIVEN, class_names=None),
])  # fmt: skip
def test_several_ways_to_return_them(given: Any) -> None:
    found = as_arrays("mine", given)
    assert torch.equal(torch.as_tensor(found.x_test), X[:3]) and torch.equal(found.y_test, Y[:3])
    assert found.class_names == ("0", "1", "2")


@pytest.mark.parametrize(("given", "sentence"), [
    ((X, Y), r"source of mine returns a tuple of 2, not .*: return ddist\.data\.sources\.Arrays"),
    (None, r"source of mine returns a NoneType, not"),
    ({"images": X}, r"source of mine returns a dict, not"),
    (replace(GIVEN, x_train=X.float()), r"mine: x_train holds floats outside \[0, 1\] \(from 0"),
    (replace(GIVEN, x_test=X[:3].int() * 257), r"mine: x_test holds integers outside 0 to 255"),
    (replace(GIVEN, x_train=X / 255 * torch.nan), r"x_train holds floats outside \[0, 1\]"),
    (replace(GIVEN, x_train=X > 9), r"must be uint8 or floats in \[0, 1\], got torch\.bool"),
    (replace(GIVEN, x_train=X[:, :2]), r"mine: x_train must be \[N, H, W\], .* got \[6, 2, 5, 4\]"),
    (replace(GIVEN, y_train=Y.float()), r"mine: y_train must be .* \[N\] or \[N, 1\], got torch"),
    (replace(GIVEN, y_test=torch.eye(3)), r"mine: y_test must be integer labels"),
    (replace(GIVEN, y_train=["a"] * 6), r"mine: y_train is no array of numbers"),
    (replace(GIVEN, x_train=[[1], [1, 2]]), r"mine: x_train is no array of numbers"),
])  # fmt: skip
def test_what_is_something_else_is_one_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(DdistError, match=sentence):
        as_arrays("mine", given)


def test_a_dataset_takes_floats(real_data: Callable[..., Any]) -> None:
    """From end to end: what a function returns becomes the images that are distilled."""
    data = real_data("digits")
    data._source = lambda request: replace(GIVEN, x_train=X / 255)
    data.load()
    assert torch.equal(data.train.x, X[Y.argsort(stable=True)])
