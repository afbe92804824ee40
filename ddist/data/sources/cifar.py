"""CIFAR's files: pickles, read by an unpickler that can build arrays and nothing else.

torchvision unpickles them with ``pickle.load``, which lets a file run anything. That is tolerable
after the checksum has been compared, and not for a mirrored copy (``dataset.verify=false``).
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays, lists, dicts and strings; refuses every other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("multiarray", "_reconstruct"): np.ndarray.__reduce__(np.empty(0))[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        # The module's name depends on the numpy that wrote the file.
        key = (module.removeprefix("numpy.core.").removeprefix("numpy._core."), name)
        if key not in allowed:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}")
        return allowed[key]


def read_cifar_file(path: Path) -> dict[str, Any]:
    """Read the dict in one of CIFAR's files.

    Raises:
        pickle.UnpicklingError: the file is damaged, or holds more than arrays, lists and strings.
        ValueError: it does not hold a dict.
    """
    with path.open("rb") as file:
        content = _ArraysOnly(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, not a dict")
    return content
