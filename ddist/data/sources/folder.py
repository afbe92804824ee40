"""Pictures in folders: your own, and Tiny ImageNet."""

import logging
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt, Lt
from filelock import FileLock

from ddist.data.classes import choose_classes
from ddist.data.sources.base import Arrays, Fit, Request
from ddist.data.sources.decode import USUAL, Colours, parse_colours
from ddist.data.sources.layout import Listing, check_apart, find_layout
from ddist.data.sources.listing import class_folders, list_files, log_left_out, log_unsorted
from ddist.data.sources.pictures import decode_pictures
from ddist.data.sources.published import torchvision_datasets
from ddist.data.sources.sizes import MOST, MOST_ON_CPU, choose_size
from ddist.data.split import draw_test
from ddist.errors import DdistError
from ddist.formatting import size
from ddist.settings.ranges import NonNegative, NonNegativeInt, Positive

log = logging.getLogger(__name__)

TINY_FOLDER = "tiny-imagenet-200"
TINY_URL = f"http://cs231n.stanford.edu/{TINY_FOLDER}.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def folder(
    request: Request,
    folder: str | None,
    test: str | None,
    test_share: Annotated[float, Gt(0), Lt(1)],
    split_seed: NonNegativeInt,
    in_memory: NonNegative,
    fit: Fit,
    background: str,
    white: Positive | None,
) -> Arrays:
    """Read the pictures of class folders, decoded as RGB: ``folder``/train/<class>/* and
    ``folder``/<test>/<class>/* (see :func:`ddist.data.sources.layout.find_layout` for the names).

    ``test`` names the folder of the test pictures; None looks for one. Where there is none,
    ``test_share`` of each class is drawn by ``split_seed``; so it is where the class folders lie
    directly in ``folder``. Labels follow the sorted names of the class folders of train. Up to
    ``in_memory`` MiB of decoded pictures are held in memory; more are left on disk, from where
    batches are read. ``fit`` says how pictures of another shape become squares of dataset.size.
    ``background`` is the colour behind transparent pixels, ``white`` the value
    that becomes 255 in pictures of more than 8 bits (see
    :class:`ddist.data.sources.decode.Colours`).
    """
    if folder is None:
        raise DdistError(
            "dataset=imagefolder needs a folder: set dataset.folder=/path/to/pictures, with "
            "train/<class>/* and test/<class>/* in it, or <class>/* alone."
        )
    colours = parse_colours(background, white)
    root = Path(folder).expanduser()
    layout = find_layout(root, class_folders(root), test)
    classes = class_folders(layout.train)
    train = _list_classes(layout.train, classes)
    facts: dict[str, Any] = {}
    if layout.test is None:
        drawn = draw_test([label for _, label in train], classes, test_share, split_seed)
        held_out = [picture for row, picture in enumerate(train) if row in drawn]
        train = [picture for row, picture in enumerate(train) if row not in drawn]
        facts["test_split"] = {"drawn_share": test_share, "split_seed": split_seed}
        log.info(
            "%s has no test pictures: %g of each class, %d of %d pictures, are drawn for testing "
            "(dataset.source.test_share, split_seed=%d).",
            root,
            test_share,
            len(held_out),
            len(held_out) + len(train),
            split_seed,
        )
    else:
        unknown = sorted(set(class_folders(layout.test)) - set(classes))
        if unknown:
            raise DdistError(
                f"{layout.test} has the class {unknown[0]!r}, which {layout.train} has not: both "
                "need the same class folders."
            )
        held_out = _list_classes(layout.test, classes)
        check_apart(train, held_out)
    request = replace(request, fit=fit)
    arrays = decoded(request, root, train, held_out, tuple(classes), in_memory, colours)
    return replace(arrays, facts={**facts, **arrays.facts})


def tiny_imagenet(request: Request, in_memory: NonNegative) -> Arrays:
    """Read Tiny ImageNet (Stanford CS231n); its labelled validation pictures are the test split.

    It lies in ``root``/tiny-imagenet-200, the unpacked archive, with val/val_annotations.txt or
    val/<class>/*. Labels follow the sorted WordNet ids; class names are the first word of each.
    ``verify`` counts the pictures, since the archive with the checksum need not be kept;
    ``in_memory`` as in :func:`folder`.
    """
    root = request.root / TINY_FOLDER
    if not (root / "train").is_dir():
        download_archive(request, "tiny_imagenet", root / "train", TINY_URL, TINY_MD5)
    classes = class_folders(root / "train")
    train = _list_classes(root / "train", classes, quiet=True)
    annotations = root / "val" / "val_annotations.txt"
    if annotations.is_file():
        test = _list_annotated(annotations, classes)
    else:
        test = _list_classes(root / "val", classes, quiet=True)
    if request.verify and (len(classes), len(train), len(test)) != (200, 100_000, 10_000):
        raise DdistError(
            f"tiny_imagenet: expected 200 classes, 100000 train and 10000 validation pictures in "
            f"{root}, got {len(classes)}, {len(train)} and {len(test)}; delete the folder to "
            "download it again, or set dataset.verify=false to take it as it is."
        )
    names = _tiny_names(root / "words.txt", classes)
    return decoded(request, root, train, test, names, in_memory)


def decoded(
    request: Request,
    root: Path,
    train: Listing,
    test: Listing,
    class_names: tuple[str, ...],
    in_memory: float,
    colours: Colours = USUAL,
) -> Arrays:
    """Decode the pictures of two listings, whose classes are ``class_names``, or those of the
    requested classes alone; ``root`` is where they lie, for messages, and ``in_memory`` is as in
    :func:`folder`."""
    chosen = choose_classes(str(root), class_names, request.classes)
    train, test = (_of_classes(listing, chosen) for listing in (train, test))
    class_names = tuple(class_names[c] for c in chosen)
    for split, listing in (("train", train), ("test", test)):
        if not listing:
            raise DdistError(f"{root} has no {split} pictures in class folders.")
    # Before anything is decoded, which may take hours.
    _check_classes(root, {label for _, label in train}, class_names)
    facts: dict[str, Any] = {}
    if request.size is None:
        most = MOST if torch.accelerator.is_available() else MOST_ON_CPU
        size_chosen = choose_size([path for path, _ in (*train, *test)], request.cache, most)
        request = replace(request, size=size_chosen)
        facts = {} if size_chosen is None else {"size": size_chosen}
    classes = [*_by_class(train), *_by_class(test)]
    groups = [[path for path, _ in pictures] for pictures in classes]
    x, kept = decode_pictures(groups, request, colours)
    labels = torch.tensor([label for pictures in classes for _, label in pictures])[kept]
    num_train = int((kept < len(train)).sum())
    y_train, y_test = labels[:num_train], labels[num_train:]
    _check_classes(root, set(y_train.tolist()), class_names)  # of which pictures are left
    if x.num_bytes <= in_memory * 2**20:
        held = x.in_memory()
        return Arrays(held[:num_train], y_train, held[num_train:], y_test, class_names, facts, True)
    log.info(
        "The decoded pictures (%s) are read from disk batch by batch: they take more than "
        "dataset.source.in_memory=%g MiB.",
        size(x.num_bytes),
        in_memory,
    )
    on_disk = x.part(0, num_train), x.part(num_train, len(x))
    return Arrays(on_disk[0], y_train, on_disk[1], y_test, class_names, facts, True)


def _of_classes(listing: Listing, chosen: list[int]) -> Listing:
    """Return the pictures of the ``chosen`` classes, which become the classes 0, 1, …"""
    labels = {c: label for label, c in enumerate(chosen)}
    return [(path, labels[c]) for path, c in listing if c in labels]


def _by_class(listing: Listing) -> list[Listing]:
    """Return the pictures of each class that has any, in the order of the labels."""
    ordered = sorted(listing, key=lambda picture: picture[1])
    return [list(group) for _, group in groupby(ordered, key=lambda picture: picture[1])]


def _check_classes(root: Path, labels: set[int], class_names: tuple[str, ...]) -> None:
    """Raise a DdistError for the first class that has no training picture."""
    empty = sorted(set(range(len(class_names))) - labels)
    if empty:
        raise DdistError(
            f"{root / 'train'}: class {empty[0]} ({class_names[empty[0]]}) has no training image: "
            "put pictures into its folder, or remove it here and among the test pictures."
        )


def _list_classes(root: Path, classes: list[str], quiet: bool = False) -> Listing:
    """List the pictures of the class folders in ``root``; log all else there unless ``quiet``."""
    listing: Listing = []
    left_out: list[Path] = []
    for label, name in enumerate(classes):
        files = list_files(root / name)
        listing += [(path, label) for path in files.pictures]
        left_out += files.left_out
    if not quiet:
        log_left_out(root, left_out)
        log_unsorted(root)
    return listing


def _list_annotated(annotations: Path, classes: list[str]) -> Listing:
    """Read lines "picture<TAB>class<TAB>box…", the pictures in images/ beside the file."""
    labels = {name: label for label, name in enumerate(classes)}
    listing = []
    for line in annotations.read_text().splitlines():
        picture, _, rest = line.partition("\t")
        name = rest.split("\t")[0]
        if name not in labels:
            raise DdistError(f"{annotations} gives {picture!r} the unknown class {name!r}.")
        listing.append((annotations.parent / "images" / picture, labels[name]))
    return listing


def _tiny_names(words: Path, classes: list[str]) -> tuple[str, ...]:
    if not words.is_file():
        return tuple(classes)
    lines = (line.partition("\t") for line in words.read_text().splitlines())
    names = {key: text.split(",")[0].strip() for key, _, text in lines}
    return tuple(names.get(key, key) for key in classes)


def download_archive(request: Request, name: str, expected: Path, url: str, md5: str) -> None:
    """Fetch and unpack the archive of the dataset ``name`` below ``request.root``, unless
    ``expected`` is there."""
    if not request.download:
        raise DdistError(
            f"{name} is not in {request.root}: expected {expected}; set paths.data "
            "(DDIST_DATA) to the folder that holds it, or dataset.download=true."
        )
    download = torchvision_datasets().utils.download_and_extract_archive
    try:
        request.root.mkdir(parents=True, exist_ok=True)
        with FileLock(request.root / f".{name}.lock"):
            if not expected.exists():
                download(url, str(request.root), md5=md5)
    except (OSError, RuntimeError) as error:
        raise DdistError(
            f"{name} could not be downloaded to {request.root} ({error}); unpack {url} "
            "there yourself or set paths.data (DDIST_DATA) to where it is."
        ) from error
