import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ddist.data import RealData
from ddist.errors import DdistError

Factory = Callable[..., RealData]
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(256, size=(6, 3, 5, 4), dtype=np.uint8)  # [N, C, H, W]
Y = np.array([0, 0, 1, 1, 2, 2])


def contents(**changes: Any) -> dict[str, Any]:
    found = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, **changes}
    return {key: value for key, value in found.items() if value is not None}


def read(real_data: Factory, path: Path) -> RealData:
    return real_data("arrays", source={"file": str(path)}).load()


@pytest.fixture
def npz(real_data: Factory, tmp_path: Path) -> Callable[..., RealData]:
    def build(**changes: Any) -> RealData:
        np.savez(tmp_path / "data.npz", **contents(**changes))
        return read(real_data, tmp_path / "data.npz")

    return build


def test_all_layouts_and_types_give_the_same_images(npz: Callable[..., RealData]) -> None:
    for x in (X, X.transpose(0, 2, 3, 1), X / 255, (X / 255).astype(np.float32)):
        data = npz(x_train=x, x_test=x)
        assert torch.equal(data.train.x, torch.from_numpy(X))
        assert data.class_names == ("0", "1", "2")
    grey = npz(x_train=X[:, 0], x_test=X[:, :1])
    assert torch.equal(grey.train.x, torch.from_numpy(X[:, :1]))


def test_class_names_from_both_kinds_of_file(
    npz: Callable[..., RealData], real_data: Factory, tmp_path: Path
) -> None:
    names = ["ant", "bee", "cow"]
    assert npz(class_names=np.array(names)).class_names == tuple(names)
    path = tmp_path / "data.safetensors"
    save_file(contents(), path, metadata={"class_names": json.dumps(names)})
    data = read(real_data, path)
    assert data.class_names == tuple(names)
    assert torch.equal(data.test.x, torch.from_numpy(X))


def test_files_of_medmnist_are_read(real_data: Factory, tmp_path: Path) -> None:
    """Labels are [N, 1] there."""
    names = ("train", "val", "test")
    images = {f"{name}_images": X.transpose(0, 2, 3, 1) for name in names}
    labels = {f"{name}_labels": Y[:, None].astype(np.uint8) for name in names}
    np.savez(tmp_path / "pathmnist.npz", **images, **labels)
    data = read(real_data, tmp_path / "pathmnist.npz")
    assert torch.equal(data.train.x, torch.from_numpy(X))
    assert torch.equal(data.test.y, torch.from_numpy(Y))
    del labels["test_labels"]
    np.savez(tmp_path / "pathmnist.npz", **images, **labels)
    with pytest.raises(DdistError, match=r"lacks test_labels: expected .*MedMNIST's, train_images"):
        read(real_data, tmp_path / "pathmnist.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "lacks y_test: expected .* and it has x_test, x_train, y_train"),
        (
            {key: None for key in contents()} | {"images": X, "labels": Y},
            "lacks x_train, y_train, x_test, y_test: expected .*, and it has images, labels",
        ),
        ({"x_train": X[:5]}, "5 images and 6 labels"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "at least one image"),
        ({"x_train": X.astype(np.int32) * 257}, "integers outside 0 to 255"),
        ({"x_train": X > 100}, "uint8 or floats"),
        ({"x_train": X / 1.0}, r"outside \[0, 1\]"),
        ({"x_train": np.full(X.shape, np.nan)}, r"outside \[0, 1\]"),
        ({"x_train": X.reshape(6, -1)}, r"\[N, H, W, C\].*got \[6, 60\]"),
        ({"x_train": X.reshape(6, 4, 5, 3)[..., :2]}, r"C = 1 or 3"),
        ({"x_test": X[:, :1]}, "differ in shape"),
        ({"y_train": Y / 2}, "integer labels"),
        ({"y_train": np.eye(6)}, "integer labels"),
        ({"y_train": Y - 1}, "labels from 0 to 1, got -1"),
        ({"y_test": Y + 1}, "test labels from 0 to 2, got 1 to 3"),
        ({"y_train": np.array([0, 0, 0, 0, 2, 2])}, "class 1 .* has no training image"),
        ({"class_names": np.array(["a", "b"])}, "labels from 0 to 1, got 0 to 2"),
        ({"x_train": np.array([None])}, "cannot be read"),
    ],
)
def test_mistakes_are_named(
    npz: Callable[..., RealData], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DdistError, match=message):
        npz(**changes)


def test_bad_files_are_named(real_data: Factory, tmp_path: Path) -> None:
    with pytest.raises(DdistError, match=r"needs a file: set dataset\.source\.file"):
        real_data("arrays").load()
    with pytest.raises(DdistError, match="there is no file"):
        read(real_data, tmp_path / "none.npz")
    for name in ("data.npz", "data.safetensors", "data.pt"):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(DdistError, match=r"cannot be read|expected a \.npz or \.safetensors"):
            read(real_data, tmp_path / name)
