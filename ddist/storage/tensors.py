"""Files of tensors."""

from collections.abc import Iterable
from pathlib import Path

from safetensors import safe_open
from torch import Tensor


def read_safetensors(
    path: Path, names: Iterable[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, all or those of ``names``, and its metadata. Raise
    what safetensors raises."""
    with safe_open(path, "pt") as file:
        chosen = file.keys() if names is None else names
        return {name: file.get_tensor(name) for name in chosen}, file.metadata() or {}
