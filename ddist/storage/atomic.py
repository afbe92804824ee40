"""Files and folders that are either complete or as they were."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ddist.errors import DdistError


@contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of ``path`` where the block ends well; else
    nothing of it is left. ``alone``: no other process writes ``path`` (its lock is held), so that
    what a killed run left is written over."""
    token = "" if alone else f"{uuid4().hex[:8]}."
    partial = path.with_name(f".{path.name}.{token}partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write ``content`` and wait until it is on the disk: a rename must not overtake it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_file_whole(path: Path, content: bytes) -> None:
    """Write ``path`` so that it is either complete or as it was. Raises DdistError where the
    system refuses."""
    try:
        with replacing(path) as partial:
            write_file(partial, content)
    except OSError as error:
        raise DdistError(
            f"Could not write {path}: {error.strerror or error}. Make room or choose another "
            "folder."
        ) from error


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Make ``path`` a folder of exactly ``files`` (name, or path in it, to content), or change
    nothing.

    The files are written to a hidden sibling, flushed to the disk and renamed; an earlier folder
    of the same files is replaced only then. Raises DdistError where the system refuses (disk full,
    no permission) and where ``path`` holds anything else, which is never deleted.
    """
    path = path.resolve()  # so that a symbolic link stays and its target is replaced
    token = uuid4().hex[:8]
    fresh = path.with_name(f".{path.name}.{token}.new")
    try:
        refuse_others(path, {Path(name).parts[0] for name in files})
        fresh.mkdir(parents=True)
        for name, content in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(fresh / name, content)
        swap(fresh, path, retired=path.with_name(f".{path.name}.{token}.old"))
    except OSError as error:
        raise DdistError(
            f"Could not write {path}: {error.strerror or error}; nothing half-written was left "
            "there and any earlier version is untouched. Make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def refuse_others(path: Path, names: set[str]) -> None:
    """Raise DdistError unless ``path`` is free or a folder with nothing but ``names`` in it."""
    if path.is_dir():
        others = sorted({entry.name for entry in path.iterdir()} - names)
        if others:
            raise DdistError(
                f"Expected {path} to be free or to hold an earlier version, but it holds other "
                f"files ({', '.join(others[:3])}): move them or choose another folder."
            )
    elif path.exists():
        raise DdistError(f"Expected a folder at {path}, but a file is there: move it.")


def swap(fresh: Path, path: Path, retired: Path) -> None:
    """Rename ``fresh`` to ``path``; what was there goes, or comes back if the rename fails."""
    if not path.exists():
        fresh.rename(path)
        return
    path.rename(retired)
    try:
        fresh.rename(path)
    except BaseException:
        retired.rename(path)
        raise
    shutil.rmtree(retired, ignore_errors=True)
