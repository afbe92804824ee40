"""Your own data as arrays in one file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddist.data.sources.base import Arrays, Request
from ddist.errors import DdistError

KEYS = ("x_train", "y_train", "x_test", "y_test")
MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")
"""The same in the files of MedMNIST."""


def arrays(request: Request, file: str | None) -> Arrays:
    """Reads ``file`` (.npz or .safetensors).

    Keys: x_train, x_test: images [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, uint8,
    or floats in [0, 1], which are rounded to uint8; y_train, y_test: integer labels [N] or [N, 1]
    from 0. MedMNIST's own keys (train_images, ...) do as well; its validation images are not used.
    Class names are optional: the string array ``class_names`` of an .npz, or the metadata entry
    ``class_names`` (a JSON list) of a .safetensors file; otherwise the labels are the names.
    """
    if file is None:
        raise DdistError(
            "dataset=arrays needs a file: set dataset.source.file=/path/to/data.npz (or "
            f".safetensors) with the keys {', '.join(KEYS)}."
        )
    path = Path(file).expanduser()
    if not path.is_file():
        raise DdistError(f"dataset=arrays: there is no file {path}: set dataset.source.file.")
    if path.suffix not in (".npz", ".safetensors"):
        raise DdistError(f"dataset=arrays: expected a .npz or .safetensors file, got {path}.")
    try:
        given = _keys(path)
        keys = MEDMNIST if not {*KEYS} & {*given} and {*MEDMNIST} & {*given} else KEYS
        missing = [key for key in keys if key not in given]
        if missing:
            raise DdistError(
                f"dataset=arrays: {path} lacks {', '.join(missing)}: expected the keys "
                f"{', '.join(KEYS)} (or MedMNIST's, {', '.join(MEDMNIST)}), and it has "
                f"{', '.join(sorted(given)) or 'none'}."
            )
        found, names = _read_npz(path, keys) if path.suffix == ".npz" else _read_safetensors(path)
    except (OSError, ValueError, TypeError, EOFError, SafetensorError) as error:
        raise DdistError(f"dataset=arrays: {path} cannot be read: {error}.") from error
    y_train, y_test = (_labels(path, key, found[key]) for key in keys[1::2])
    if names is None:
        most = int(y_train.max()) + 1 if len(y_train) else 0
        names = [str(label) for label in range(most)]
    x_train, x_test = (_images(path, key, found[key]) for key in keys[::2])
    return Arrays(x_train, y_train, x_test, y_test, tuple(names))


def _keys(path: Path) -> list[str]:
    """The names of the arrays in a file."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _read_npz(path: Path, keys: Sequence[str]) -> tuple[dict[str, Tensor], list[str] | None]:
    with np.load(path, allow_pickle=False) as file:
        found = {key: torch.from_numpy(file[key]) for key in keys}
        names = [str(name) for name in file["class_names"]] if "class_names" in file else None
    return found, names


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    with safe_open(path, framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        text = (file.metadata() or {}).get("class_names")
    return found, None if text is None else [str(name) for name in json.loads(text)]


def _images(path: Path, key: str, x: Tensor) -> Tensor:
    if x.ndim == 3:
        x = x.unsqueeze(1)
    if x.ndim != 4 or not {x.shape[1], x.shape[3]} & {1, 3}:
        raise DdistError(
            f"dataset=arrays: {key} in {path} must be [N, H, W], [N, H, W, C] or [N, C, H, W] with "
            f"C = 1 or 3, got {list(x.shape)}."
        )
    if x.shape[1] not in (1, 3):
        x = x.permute(0, 3, 1, 2)
    if x.dtype == torch.uint8:
        return x.contiguous()
    if not x.is_floating_point():
        raise DdistError(
            f"dataset=arrays: {key} in {path} must be uint8 or floats in [0, 1], got {x.dtype}."
        )
    if not bool(((x >= 0) & (x <= 1)).all()):  # NaN fails too
        raise DdistError(
            f"dataset=arrays: {key} in {path} holds floats outside [0, 1] (from {float(x.min())} "
            f"to {float(x.max())}): scale them to [0, 1] or store uint8."
        )
    return (x * 255).round().to(torch.uint8).contiguous()


def _labels(path: Path, key: str, y: Tensor) -> Tensor:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.squeeze(1)
    if y.ndim != 1 or y.is_floating_point() or y.dtype == torch.bool:
        raise DdistError(
            f"dataset=arrays: {key} in {path} must be integer labels [N] or [N, 1], got {y.dtype} "
            f"{list(y.shape)}."
        )
    return y.long()
