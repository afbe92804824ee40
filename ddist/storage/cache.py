"""Tensors computed once and kept on disk: complete or absent, whatever else is running."""

import logging
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ddist.storage.atomic import replacing
from ddist.storage.sharing import accessible, checksum, claimed
from ddist.storage.tensors import read_safetensors

log = logging.getLogger(__name__)

WHAT = "cached tensors"


def cached_tensors(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors in ``path``, computed and written first if they are not there.

    One process computes while the others wait. The file is written under a temporary name and
    renamed, so a killed run leaves nothing half-written. A file that cannot be read (a full disk,
    a foreign tool) or whose checksum is another is computed anew.

    Raises:
        DdistError: the file cannot be written; and whatever ``compute`` raises.
    """
    tensors = _read(path)  # without the lock: a complete file needs none, nor a writable folder
    if tensors is not None:
        return tensors
    with claimed(path.with_name(f"{path.name}.lock"), -1, WHAT):
        tensors = _read(path)
        if tensors is None:
            tensors = compute()
            _write(path, tensors)
    return tensors


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        tensors, metadata = read_safetensors(path)
    except (FileNotFoundError, SafetensorError):
        return None
    stored_checksum = metadata.get("crc32")
    if stored_checksum not in (None, checksum(tensors)):  # files of earlier versions have none
        log.warning("The cache file %s is damaged; it is made anew.", path)
        return None
    return tensors


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    stored = {key: value.cpu().contiguous() for key, value in tensors.items()}
    with accessible(path, WHAT), replacing(path, alone=True) as partial:
        try:
            save_file(stored, partial, {"crc32": checksum(stored)})
        except SafetensorError as error:  # such as of a full disk
            raise OSError(str(error)) from error
