"""Tensors computed once and kept on disk: complete or absent, whatever else is running."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddist.errors import DdistError
from ddist.storage.sharing import checksum

log = logging.getLogger(__name__)


def cached_tensors(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in ``path``, computed and written first if they are not there.

    One process computes while the others wait. The file is written under a temporary name and
    renamed, so a killed run leaves nothing half-written. A file that cannot be read (a full disk,
    a foreign tool) or whose checksum is another is computed anew.

    Raises:
        DdistError: the file cannot be written; and whatever ``compute`` raises.
    """
    known = _read(path)  # without the lock: a complete file needs none, nor a writable folder
    if known is not None:
        return known
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            known = _read(path)
            if known is not None:
                return known
            tensors = compute()
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            try:
                stored = {key: value.cpu().contiguous() for key, value in tensors.items()}
                save_file(stored, partial, {"crc32": checksum(stored)})
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            return tensors
    except (OSError, SafetensorError) as error:
        raise DdistError(
            f"Cannot write the cache file {path}: {error}; make room or set paths.cache "
            "(DDIST_CACHE) to a folder that can be written to."
        ) from error


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            noted = (file.metadata() or {}).get("crc32")
    except (FileNotFoundError, SafetensorError):
        return None
    if noted not in (None, checksum(tensors)):  # files of earlier versions note none
        log.warning("The cache file %s is damaged; it is made anew.", path)
        return None
    return tensors
