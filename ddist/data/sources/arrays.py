"""Your own data as arrays in one file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddist.data.sources.base import Arrays, Request
from ddist.data.sources.convert import KEYS, as_images, as_labels, numbered
from ddist.errors import DdistError
from ddist.storage.tensors import read_safetensors

MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")
"""The same in the files of MedMNIST."""


def arrays(request: Request, file: str | None) -> Arrays:
    """Read ``file`` (.npz or .safetensors).

    Keys: x_train, x_test: images [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, numbers
    0 to 255, or floats in [0, 1], which are rounded to uint8; y_train, y_test: integer labels [N]
    or [N, 1] from 0. MedMNIST's own keys (train_images, ...) do as well; its validation images are
    not used. Class names are optional: the string array ``class_names`` of an .npz, or the metadata
    entry ``class_names`` (a JSON list) of a .safetensors file; otherwise the labels are the names.
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
        stored = _keys(path)
        keys = MEDMNIST if not {*KEYS} & {*stored} and {*MEDMNIST} & {*stored} else KEYS
        missing = [key for key in keys if key not in stored]
        if missing:
            raise DdistError(
                f"dataset=arrays: {path} lacks {', '.join(missing)}: expected the keys "
                f"{', '.join(KEYS)} (or MedMNIST's, {', '.join(MEDMNIST)}), and it has "
                f"{', '.join(sorted(stored)) or 'none'}."
            )
        arrays, names = _read_npz(path, keys) if path.suffix == ".npz" else _read_safetensors(path)
    except (OSError, ValueError, TypeError, EOFError, SafetensorError) as error:
        raise DdistError(f"dataset=arrays: {path} cannot be read: {error}.") from error
    where = f"dataset=arrays: {{}} in {path}"
    y_train, y_test = (as_labels(where.format(key), arrays[key]) for key in keys[1::2])
    x_train, x_test = (as_images(where.format(key), arrays[key]) for key in keys[::2])
    return Arrays(x_train, y_train, x_test, y_test, tuple(names or numbered(y_train)))


def _keys(path: Path) -> list[str]:
    """Return the names of the arrays in a file."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _read_npz(path: Path, keys: Sequence[str]) -> tuple[dict[str, Tensor], list[str] | None]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in keys}
        names = [str(name) for name in file["class_names"]] if "class_names" in file else None
    return arrays, names


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    tensors, metadata = read_safetensors(path)
    text = metadata.get("class_names")
    return tensors, None if text is None else [str(name) for name in json.loads(text)]
