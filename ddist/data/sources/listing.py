"""Which files of a folder are pictures, and which are left out."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from inspect import isclass
from pathlib import Path

from PIL import Image, ImageFile

from ddist.errors import DdistError

log = logging.getLogger(__name__)

SYSTEM_FILES = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx",
        "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle",
        "__pycache__",
    }
)  # fmt: skip
"""What operating systems, network drives and Python put into folders, beside hidden names."""

NUM_NAMED = 5
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})

FolderId = tuple[int, int]  # device and inode, which a folder keeps whatever links lead to it


@dataclass
class Files:
    """What lies in a folder: pictures, damaged ones among them, and what is no picture."""

    pictures: list[Path] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)


def is_ignored(name: str) -> bool:
    """Tell whether a file or folder of that name is hidden or the operating system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def class_folders(root: Path) -> list[str]:
    """List the names of the folders in ``root``, sorted, links to folders among them, but without
    those of :func:`is_ignored` and links that lead back to ``root`` or above it.

    Raises:
        DdistError: there is no such folder, or it cannot be read.
    """
    if not root.is_dir():
        raise DdistError(f"There is no folder {root}: expected one folder per class in it.")
    above = _folders_above(root)
    return sorted(
        entry.name
        for entry in _entries(root)
        if _is_kind(entry.is_dir) and _folder_id(entry.path) not in above
    )


def list_files(folder: Path) -> Files:
    """List all files below ``folder``, sorted; none if there is no such folder.

    Links to files and folders are followed, each folder once, and none that leads back to a folder
    above. Names of :func:`is_ignored` are in neither list. A file is a picture if its suffix is
    that of a format which Pillow reads, damaged as it may be, or if Pillow can open it.

    Raises:
        DdistError: a folder that cannot be read.
    """
    files = Files()
    if not folder.is_dir():
        return files
    _register_heif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures and odd metadata
        for path, is_file in _walk(folder, _folders_above(folder)):
            (files.pictures if _is_picture(path, is_file) else files.left_out).append(path)
    files.pictures.sort()
    files.left_out.sort()
    return files


def find_pictures(folder: Path) -> list[Path]:
    """List all pictures below ``folder``, sorted, and log what else is there."""
    files = list_files(folder)
    log_left_out(folder, files.left_out)
    return files.pictures


def log_left_out(root: Path, left_out: list[Path]) -> None:
    """Log the files below ``root`` that are not read, the first few by name."""
    if not left_out:
        return
    needs_heif = any(path.suffix.lower() in HEIF_SUFFIXES for path in left_out)
    log.warning(
        "Left out %d %s in %s that Pillow cannot open as pictures: %s%s.",
        len(left_out),
        "file" if len(left_out) == 1 else "files",
        root,
        name_some([str(path.relative_to(root)) for path in left_out]),
        "; for .heic install the package pillow-heif"
        if needs_heif and not _register_heif()
        else "",
    )


def log_unsorted(root: Path) -> None:
    """Log the pictures that lie beside the class folders of ``root``, in none of them."""
    unsorted = sorted(
        entry.name
        for entry in _entries(root)
        if not _is_kind(entry.is_dir) and _suffix(entry.name) in _picture_suffixes()
    )
    if unsorted:
        log.warning(
            "Left out %d %s in no class folder of %s: %s.",
            len(unsorted),
            "picture" if len(unsorted) == 1 else "pictures",
            root,
            name_some(unsorted),
        )


def name_some(names: list[str]) -> str:
    """Join the first few of ``names``, and the number of the others."""
    more = len(names) - NUM_NAMED
    return ", ".join(names[:NUM_NAMED]) + (f" … and {more} more" if more > 0 else "")


def _is_picture(path: Path, is_file: bool) -> bool:
    """Tell whether a file has the suffix of a picture or can be opened as one. A broken link with
    such a suffix counts too: it is a missing picture."""
    has_suffix = _suffix(path.name) in _picture_suffixes()
    if not is_file:  # a pipe, say, which would be waited for
        return has_suffix and not path.exists()
    return has_suffix or _opens(path)


def _opens(path: Path) -> bool:
    """Tell whether Pillow recognises the file by its content.

    Formats without a signature at their start, which other files may resemble, and those for which
    Pillow needs another program (EPS) or has no decoder (MPEG) have to be decoded for that.
    """
    try:
        with Image.open(path) as file:
            _, accept = Image.OPEN[str(file.format)]
            if accept is None or not _is_decodable(str(file.format)):
                file.load()
    except Image.DecompressionBombError:
        return True  # too large to be decoded, which is said then
    except MemoryError:
        raise
    except Exception:  # a plugin may raise anything for what is no picture of its format
        return False
    return True


@cache
def _picture_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the formats that Pillow reads by itself."""
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if _is_decodable(name)
    )


def _is_decodable(format_name: str) -> bool:
    """Tell whether Pillow has a decoder of its own for pictures of that format."""
    factory, _ = Image.OPEN.get(format_name, (None, None))
    is_stub = isclass(factory) and issubclass(factory, ImageFile.StubImageFile)
    is_image = Image.MIME.get(format_name, "image/").startswith("image/")
    return factory is not None and not is_stub and is_image


@cache
def _register_heif() -> bool:
    """Let Pillow read .heic if the package pillow-heif is installed; tell whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _walk(folder: Path, seen: set[FolderId]) -> Iterator[tuple[Path, bool]]:
    """Yield what lies below ``folder``, each with whether it is an ordinary file. Folders in
    ``seen`` are left out; those visited are added to it."""
    entries = sorted(_entries(folder), key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in entries:  # links last: a folder that is there in person has its own path
        if not _is_kind(entry.is_dir):
            yield folder / entry.name, _is_kind(entry.is_file)
        elif (identity := _folder_id(entry.path)) not in seen:
            seen.add(identity)
            yield from _walk(folder / entry.name, seen)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_ignored(entry.name)]
    except OSError as error:
        raise DdistError(f"The folder {folder} cannot be read ({error.strerror}).") from error


def _is_kind(ask: Callable[[], bool]) -> bool:
    """Tell whether an entry is of the kind that ``ask`` asks for; a link to itself is of none."""
    try:
        return ask()
    except OSError:
        return False


def _folder_id(path: str | Path) -> FolderId:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _folders_above(folder: Path) -> set[FolderId]:
    """Return ``folder`` and all folders above it, by its own path and by where its links lead."""
    paths = (folder.absolute(), folder.resolve())
    return {_folder_id(ancestor) for path in paths for ancestor in (path, *path.parents)}
