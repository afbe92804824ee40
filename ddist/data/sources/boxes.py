"""Objects cut out of the pictures of PASCAL VOC, as a classification dataset."""

import hashlib
import os
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from ddist.data.cache import cached_tensors
from ddist.data.sources.base import Arrays, Request
from ddist.data.sources.published import torchvision_datasets
from ddist.errors import DdistError

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

Box = tuple[int, int, int, int]  # left, upper, right, lower, in pixels from 0
Crop = tuple[Path, Box, int]  # picture, where in it, label


def voc_crops(request: Request, year: str, train: str, test: str) -> Arrays:
    """The bounding boxes of ``root``/VOCdevkit/VOC<year>, torchvision's layout of VOCDetection, cut
    out and resized to ``dataset.size`` on both sides; uint8 RGB. Objects marked as difficult are
    left out. ``train`` and ``test`` name lists of ImageSets/Main (2007 has trainval and test)."""
    if request.size is None:
        raise DdistError("dataset=voc_crops needs one size for its crops: set dataset.size=224.")
    root = request.root / "VOCdevkit" / f"VOC{year}"
    lists = {part: list_crops(request, root, year, part) for part in (train, test)}
    x = decode_crops([*lists[train], *lists[test]], request.size, request.cache)
    y = {part: torch.tensor([label for *_, label in crops]) for part, crops in lists.items()}
    return Arrays(x[: len(y[train])], y[train], x[len(y[train]) :], y[test], VOC)


def list_crops(request: Request, root: Path, year: str, part: str) -> list[Crop]:
    """The objects of one list of pictures, in its order."""
    names = root / "ImageSets" / "Main" / f"{part}.txt"
    if not names.is_file():
        _download(request, year, part, names)
    crops = []
    for name in names.read_text().split():
        for label, box in read_boxes(root / "Annotations" / f"{name}.xml"):
            crops.append((root / "JPEGImages" / f"{name}.jpg", box, label))
    if not crops:
        raise DdistError(f"voc_crops: {names} names no picture with an object.")
    return crops


def read_boxes(annotation: Path) -> list[tuple[int, Box]]:
    """Label and box of each object that is not difficult."""
    found = []
    try:
        for thing in ET.parse(annotation).getroot().iter("object"):
            if thing.findtext("difficult", "0").strip() == "1":
                continue
            label = VOC.index(str(thing.findtext("name")).strip())
            edges = [float(thing.findtext(f"bndbox/{edge}", "")) for edge in
                     ("xmin", "ymin", "xmax", "ymax")]  # fmt: skip
            left, upper, right, lower = (round(edge) for edge in edges)
            found.append((label, (left - 1, upper - 1, right, lower)))  # counted from 1
    except (OSError, ET.ParseError, ValueError) as error:
        raise DdistError(f"voc_crops: {annotation} cannot be read: {error}.") from error
    return found


def decode_crops(crops: list[Crop], size: int, cache: Path) -> Tensor:
    """uint8 [N, 3, size, size]; decoded once, then read from ``cache``/decoded, whose key holds
    each picture's path, bytes and time of change, its boxes and ``size``."""
    digest = hashlib.blake2b(f"crops {size}".encode(), digest_size=8)
    for path, box, _ in crops:
        try:
            stat = path.stat()
        except OSError as error:
            raise DdistError(f"The picture {path} is missing ({error.strerror}).") from error
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{box}\0".encode())
    kept = cache / "decoded" / f"{digest.hexdigest()}.safetensors"
    return cached_tensors(kept, lambda: {"x": _decode_all(crops, size)})["x"]


def _decode_all(crops: list[Crop], size: int) -> Tensor:
    check_memory(len(crops) * 3 * size * size)
    x = torch.empty(len(crops), 3, size, size, dtype=torch.uint8)

    def place(index: int) -> None:
        path, box, _ = crops[index]
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB").crop(box)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DdistError(
                f"The picture {path} cannot be decoded ({error}): mend or remove it."
            ) from error
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        x[index] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    with ThreadPoolExecutor() as threads:
        for _ in threads.map(place, range(len(crops))):
            pass
    return x


def check_memory(num_bytes: int) -> None:
    """Raise a DdistError for crops that this machine cannot hold."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if num_bytes > 0.7 * available:
        raise DdistError(
            f"The crops would take {num_bytes / 2**30:.0f} GiB and this machine has "
            f"{available / 2**30:.0f} GiB of memory: set a smaller dataset.size."
        )


def _download(request: Request, year: str, part: str, names: Path) -> None:
    if not request.download:
        raise DdistError(
            f"voc_crops is not in {request.root}: expected {names}; set paths.data (DDIST_DATA) to "
            "the folder that holds VOCdevkit, or dataset.download=true."
        )
    archive = f"{year}-test" if (year, part) == ("2007", "test") else year
    try:
        request.root.mkdir(parents=True, exist_ok=True)
        with FileLock(request.root / ".voc.lock"):
            if not names.is_file():
                voc = torchvision_datasets().VOCDetection
                image_set = "test" if archive.endswith("-test") else "trainval"
                voc(str(request.root), year=year, image_set=image_set, download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DdistError(
            f"voc_crops could not be downloaded to {request.root} ({error}): unpack PASCAL VOC "
            f"{year} there yourself, or set paths.data (DDIST_DATA) to where VOCdevkit is."
        ) from error
    if not names.is_file():
        raise DdistError(
            f"PASCAL VOC {year} has no list {part!r} of pictures ({names}): choose dataset.source."
            "train and dataset.source.test from train, val, trainval and, in 2007, test."
        )
