"""Which folders of a folder of pictures are for training and which for testing."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddist.errors import DdistError

log = logging.getLogger(__name__)

Listing = list[tuple[Path, int]]  # picture file and label

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")


@dataclass(frozen=True)
class Layout:
    """Where class folders are: those to train on, and those to test on or None."""

    train: Path
    test: Path | None


def find_layout(root: Path, subfolders: Sequence[str], test: str | None) -> Layout:
    """Find the layout of ``root``, which holds ``subfolders``; ``test`` names the folder of the
    test pictures, None looks for one (case does not matter).

    Training pictures are in train/ or training/, or in class folders directly below ``root``. Test
    pictures are in test/ or testing/, else in val/, valid/ or validation/; beside a test folder the
    latter is not read, which is logged.

    Raises:
        DdistError: the test pictures are the training pictures; two folders are of one kind; there
            is a folder of test pictures and none of training pictures.
    """
    train = _one_of(root, subfolders, TRAIN)
    if train is None:
        return Layout(_class_folders(root, subfolders, test), None)
    tests, validation = (_one_of(root, subfolders, names) for names in (TEST, VALIDATION))
    chosen = (tests or validation) if test is None else root / Path(test).expanduser()
    if chosen is not None and chosen.exists() and os.path.samefile(chosen, train):
        raise DdistError(
            f"{chosen} is the folder of the training pictures, and testing on those is no test: "
            "set dataset.source.test to another folder, or to null."
        )
    if validation is not None and chosen is not None and not _same(chosen, validation):
        log.info(
            "%s is not read: %s has the test pictures, and dataset.validation=0.1 would hold out a "
            "tenth of the training pictures for selection.",
            validation,
            chosen,
        )
    return Layout(train, chosen)


def _one_of(root: Path, subfolders: Sequence[str], names: Sequence[str]) -> Path | None:
    """Return the subfolder that has one of ``names``, or None."""
    there = [name for name in subfolders if name.lower() in names]
    if len(there) > 1:
        raise DdistError(
            f"{root} holds {' and '.join(there)}, which mean the same: leave one of them there."
        )
    return root / there[0] if there else None


def _class_folders(root: Path, subfolders: Sequence[str], test: str | None) -> Path:
    """Return ``root``, or raise a DdistError if its subfolders are not the classes."""
    reserved = [name for name in subfolders if name.lower() in (*TEST, *VALIDATION)]
    if test is not None and not reserved:
        raise DdistError(
            f"dataset.source.test={test} goes with a folder {root / 'train'}, which is not there: "
            "move the class folders of the training pictures into it, or leave test out, so that a "
            "share of each class is drawn."
        )
    if reserved:
        raise DdistError(
            f"{root} has test pictures in {reserved[0]}/ but no folder train/: move the class "
            "folders of the training pictures into it."
        )
    nested = [
        name
        for name in subfolders
        if any((root / name / subfolder).is_dir() for subfolder in TRAIN)
    ]
    if nested:
        raise DdistError(
            f"{root / nested[0]} holds the training pictures in a folder of their own: set "
            f"dataset.folder={root / nested[0]}."
        )
    if len(subfolders) < 2:
        listed = f"only {subfolders[0]}/" if subfolders else "no folder"
        raise DdistError(
            f"{root} must hold train/<class>/* or <class>/* of at least two classes, but holds "
            f"{listed}: set dataset.folder to where the class folders are."
        )
    return root


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and os.path.samefile(one, other)


def check_apart(train: Listing, test: Listing) -> None:
    """Raise a DdistError if all test pictures are files of training pictures too, through links;
    warn if some are."""
    known = set(_files(train))
    shared = [path for path, file in zip(_paths(test), _files(test), strict=True) if file in known]
    if not shared:
        return
    if len(shared) == len(test):
        raise DdistError(
            f"The test pictures, such as {shared[0]}, are the training pictures, and testing on "
            "those is no test: set dataset.source.test to a folder of others, or remove it."
        )
    log.warning(
        "%d of %d test pictures are training pictures too, such as %s.",
        len(shared),
        len(test),
        shared[0],
    )


def _paths(listing: Listing) -> Iterable[Path]:
    return (path for path, _ in listing)


def _files(listing: Listing) -> Iterable[tuple[int, int] | None]:
    """Yield what identifies each file, whatever its name: device and inode; None if missing."""
    for path in _paths(listing):
        try:
            listed = path.stat()
        except OSError:  # said where it is decoded
            yield None
            continue
        yield listed.st_dev, listed.st_ino
