"""Objects cut out of the pictures of PASCAL VOC, as a classification dataset."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from ddist.data.sources.base import Arrays, Request
from ddist.data.sources.damage import Damage, refuse_or_skip
from ddist.data.sources.decode import USUAL, to_rgb
from ddist.data.sources.pictures import DECODER, decode_each, hash_text, identify
from ddist.data.sources.published import torchvision_datasets
from ddist.errors import DdistError
from ddist.storage.cache import cached_tensors

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

Box = tuple[int, int, int, int]  # left, upper, right, lower, in pixels from 0
Crop = tuple[Path, Box, int]  # picture, where in it, label


def voc_crops(request: Request, year: str, train: str, test: str) -> Arrays:
    """Cut out the bounding boxes of ``root``/VOCdevkit/VOC<year>, torchvision's layout of
    VOCDetection, and resize both sides to ``dataset.size``; uint8 RGB. Objects marked difficult are
    left out. ``train`` and ``test`` name lists of ImageSets/Main (2007 has trainval and test)."""
    if request.size is None:
        raise DdistError("dataset=voc_crops needs one size for its crops: set dataset.size=224.")
    root = request.root / "VOCdevkit" / f"VOC{year}"
    lists = {split: list_crops(request, root, year, split) for split in (train, test)}
    crops = [*lists[train], *lists[test]]
    x, kept = decode_crops(crops, request, request.size)
    y = torch.tensor([label for *_, label in crops])[kept]
    num_train = int((kept < len(lists[train])).sum())
    return Arrays(x[:num_train], y[:num_train], x[num_train:], y[num_train:], VOC)


def list_crops(request: Request, root: Path, year: str, split: str) -> list[Crop]:
    """Return the objects in one list of pictures, in its order."""
    names = root / "ImageSets" / "Main" / f"{split}.txt"
    if not names.is_file():
        _download(request, year, split, names)
    crops = []
    for name in names.read_text().split():
        for label, box in read_boxes(root / "Annotations" / f"{name}.xml"):
            crops.append((root / "JPEGImages" / f"{name}.jpg", box, label))
    if not crops:
        raise DdistError(f"voc_crops: {names} names no picture with an object.")
    return crops


def read_boxes(annotation: Path) -> list[tuple[int, Box]]:
    """Return label and box of each object that is not marked as difficult."""
    objects = []
    try:
        for element in ET.parse(annotation).getroot().iter("object"):
            if element.findtext("difficult", "0").strip() == "1":
                continue
            label = VOC.index(str(element.findtext("name")).strip())
            edges = [float(element.findtext(f"bndbox/{edge}", "")) for edge in
                     ("xmin", "ymin", "xmax", "ymax")]  # fmt: skip
            left, upper, right, lower = (round(edge) for edge in edges)
            objects.append((label, (left - 1, upper - 1, right, lower)))  # counted from 1
    except (OSError, ET.ParseError, ValueError) as error:
        raise DdistError(f"voc_crops: {annotation} cannot be read: {error}.") from error
    return objects


def decode_crops(crops: list[Crop], request: Request, size: int) -> tuple[Tensor, Tensor]:
    """Return the decoded crops, uint8 [N, 3, size, size], and their numbers in ``crops``, int64
    [N]: those of damaged pictures are left out on request. Decoded once, then read from the cache,
    whose key holds each picture's path, bytes and time of change, its boxes and ``size``.

    Raises:
        DdistError: pictures are damaged and not to be skipped.
    """
    paths = [path for path, *_ in crops]
    num_pictures = len(set(paths))
    (identity,), missing = identify([paths])
    if not request.skip_damaged:
        refuse_or_skip(list(dict.fromkeys(missing)), num_pictures, skip=False)
    boxes = [box for _, box, _ in crops]
    key = hash_text(f"crops {DECODER} {size} {request.skip_damaged} {identity} {boxes}")

    def decode_all() -> dict[str, Tensor]:
        check_memory(len(crops) * 3 * size * size)
        x, reasons = _decode_all(crops, size)
        if not request.skip_damaged:
            damages = dict.fromkeys(Damage(paths[row], why) for row, why in reasons.items())
            refuse_or_skip(list(damages), num_pictures, skip=False)
        kept = [row for row in range(len(crops)) if row not in reasons]
        return {"x": x[kept] if reasons else x, "kept": torch.tensor(kept, dtype=torch.int64)}

    tensors = cached_tensors(request.cache / "decoded" / f"{key}.safetensors", decode_all)
    skipped = set(range(len(crops))) - set(tensors["kept"].tolist())
    damages = dict.fromkeys(Damage(paths[row], "is damaged") for row in sorted(skipped))
    refuse_or_skip(list(damages), num_pictures, request.skip_damaged)
    return tensors["x"], tensors["kept"]


def _decode_all(crops: list[Crop], size: int) -> tuple[Tensor, dict[int, str]]:
    """Decode the crops; return them, and by number why those of damaged pictures failed."""
    x = torch.empty(len(crops), 3, size, size, dtype=torch.uint8)

    def place(index: int) -> None:
        path, box, _ = crops[index]
        with Image.open(path) as file:  # boxes are of the picture as it is stored
            picture = to_rgb(file, USUAL, upright=False).crop(box)
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        x[index] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    return x, decode_each([path for path, *_ in crops], place)


def check_memory(num_bytes: int) -> None:
    """Raise a DdistError for crops that this machine cannot hold."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if num_bytes > 0.7 * available:
        raise DdistError(
            f"The crops would take {num_bytes / 2**30:.0f} GiB and this machine has "
            f"{available / 2**30:.0f} GiB of memory: set a smaller dataset.size."
        )


def _download(request: Request, year: str, split: str, names: Path) -> None:
    if not request.download:
        raise DdistError(
            f"voc_crops is not in {request.root}: expected {names}; set paths.data (DDIST_DATA) to "
            "the folder that holds VOCdevkit, or dataset.download=true."
        )
    archive = f"{year}-test" if (year, split) == ("2007", "test") else year
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
            f"PASCAL VOC {year} has no list {split!r} of pictures ({names}): choose dataset.source."
            "train and dataset.source.test from train, val, trainval and, in 2007, test."
        )
