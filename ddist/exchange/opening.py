"""Files of others, opened: nothing that a file asks to be run is run."""

import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors.torch import load_file
from torch import Tensor

from ddist.errors import DdistError

# DC's code counts with numpy, so its accuracies beside the images are numpy's numbers.
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]


@contextmanager
def opened(path: Path) -> Iterator[None]:
    """Raise whatever goes wrong while ``path`` is read within the block as a DdistError."""
    try:
        yield
    except FileNotFoundError:
        raise DdistError(f"There is no file {path}.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise DdistError(f"{path} cannot be read ({error.strerror}).") from None
    except (DdistError, MemoryError):
        raise
    except Exception as error:  # anything, of a file of any kind
        code = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class) ([\w.]+)", str(error))
        if code is None or not isinstance(error, pickle.UnpicklingError):
            raise DdistError(
                f"{path} is damaged, cut short or of another kind: copy it again."
            ) from None
        raise DdistError(
            f"{path} holds more than tensors ({code[1] or code[2]}), which would run code and is "
            "never loaded: save its tensors alone, with torch.save([images, labels], ...)."
        ) from None


def load(path: Path) -> Any:
    """Return what a file of torch (tensors and plain values only), numpy or safetensors holds, by
    its ending. Raises DdistError."""
    if path.suffix in (".npz", ".npy"):
        return load_npz(path)
    if path.suffix == ".safetensors":
        with opened(path):
            return load_file(path)
    return load_torch(path)


def load_torch(path: Path) -> Any:
    """Return the tensors and plain values of a torch file. Raises DdistError."""
    with (
        opened(path),
        torch.serialization.safe_globals(_NUMBERS),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # about the version of pickle
        return torch.load(path, map_location="cpu", weights_only=True)


def load_npz(path: Path) -> dict[str, Any]:
    """Return tensors, and words, by name. Raises DdistError."""
    with opened(path):
        if path.suffix == ".npy":
            arrays = {path.stem: np.load(path, allow_pickle=False)}
        else:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    return {
        name: str(array) if array.dtype.kind == "U" else torch.from_numpy(array)
        for name, array in arrays.items()
    }


def unlike(path: Path, format: str, expected: str, content: Any) -> DdistError:
    """Return the error that ``path`` holds something else than ``expected``."""
    if isinstance(content, Tensor):
        actual = f"a tensor {list(content.shape)}"
    elif isinstance(content, dict):
        actual = f"a dict of {', '.join(map(str, list(content)[:4])) or 'nothing'}"
    elif isinstance(content, list | tuple):
        actual = f"a list of {len(content)}"
    else:
        actual = f"a {type(content).__name__}"
    return DdistError(f"{path} is not as format={format} has it: {expected}, not {actual}.")
