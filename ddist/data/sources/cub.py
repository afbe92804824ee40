"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011)."""

from pathlib import Path

from ddist.data.sources.base import Arrays, Request
from ddist.data.sources.folder import Listing, decoded, download_archive
from ddist.errors import DdistError
from ddist.settings.ranges import NonNegative

FOLDER = "CUB_200_2011"
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"


def cub200(request: Request, in_memory: NonNegative) -> Arrays:
    """Read ``root``/CUB_200_2011, the unpacked archive: images.txt, image_class_labels.txt,
    train_test_split.txt and classes.txt name what lies below images/. Labels follow classes.txt.
    ``verify`` counts the pictures, since the archive with the checksum need not be kept;
    ``in_memory`` as in :func:`ddist.data.sources.folder.folder`."""
    root = request.root / FOLDER
    if not (root / "images.txt").is_file():
        download_archive(request, "cub200", root / "images.txt", URL, MD5)
    classes = read_table(root / "classes.txt")
    order = {key: label for label, key in enumerate(classes)}
    pictures, of_class, training = (
        read_table(root / name)
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    listings: dict[str, Listing] = {"1": [], "0": []}
    for key, picture in pictures.items():
        try:
            label, listing = order[of_class[key]], listings[training[key]]
        except KeyError as error:
            raise DdistError(
                f"cub200: the files in {root} disagree on picture {key} ({error.args[0]!r} is not "
                "there): unpack the archive again."
            ) from None
        listing.append((root / "images" / picture, label))
    counts = (len(classes), len(listings["1"]), len(listings["0"]))
    if request.verify and counts != (200, 5994, 5794):
        raise DdistError(
            f"cub200: expected 200 classes, 5994 train and 5794 test pictures in {root}, got "
            f"{counts[0]}, {counts[1]} and {counts[2]}; delete the folder to download it again, or "
            "set dataset.verify=false to take it as it is."
        )
    names = tuple(name.partition(".")[2] or name for name in classes.values())
    return decoded(request, root, listings["1"], listings["0"], names, in_memory)


def read_table(path: Path) -> dict[str, str]:
    """Read a file of lines "key value"."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DdistError(f"cub200: {path} cannot be read ({error.strerror}).") from error
    return {key: value.strip() for key, _, value in (line.partition(" ") for line in lines) if key}
