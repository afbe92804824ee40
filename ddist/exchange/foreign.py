"""Distilled sets as the field's own code writes them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import TENSORS, below
from ddist.data.pixels import to_channels
from ddist.data.sources.listing import class_folders, find_pictures
from ddist.data.sources.pictures import decode_separately
from ddist.errors import DdistError
from ddist.exchange.opening import load_npz, load_torch, opened, unlike

STEPS = "a list of (images, labels, step size)"


@dataclass(frozen=True)
class Foreign:
    """The content of a file."""

    images: Tensor  # float32 [N, C, H, W], in training space or pixels: the file does not say
    labels: Tensor  # int64 [N] or float [N, K]
    pixels: bool  # whether the format has pixels in [0, 1] always
    step_sizes: Tensor | None = None  # float32 [E, S], that were learned with the images
    step_index: Tensor | None = None  # int64 [N]: the step of each image
    weights: Tensor | None = None


def read_dc(path: Path, index: int) -> Foreign:
    """Read ``res_*.pt`` of the code of DC, DSA, DM and CAFE: a dict whose "data" lists [images,
    labels], one for each experiment, of which the one at ``index`` is read."""
    content = load_torch(path)
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, (list, tuple)) or not data:
        raise unlike(path, "dc", "a dict with a list of [images, labels] under 'data'", content)
    return Foreign(*pair(path, "dc", select(path, data, index)), pixels=False)


def read_mtt(path: Path) -> Foreign:
    """Read ``images_best.pt`` beside ``labels_best.pt``, as the code of MTT and its kin writes
    them, and the learned step size ``lr_best.pt``, where it is there. ``path`` is their folder or
    the images'."""
    file = path / "images_best.pt" if path.is_dir() else path
    if "images" not in file.name:
        raise DdistError(f"{file} is not called images_*.pt: path is the images' file or folder.")
    labels = file.with_name(file.name.replace("images", "labels"))
    images, y = pair(file, "mtt", (load_torch(file), load_torch(labels)))
    rate = file.with_name(file.name.replace("images", "lr"))
    if not rate.exists():
        return Foreign(images, y, pixels=False)
    value = load_torch(rate)
    try:
        size = torch.tensor([[float(value)]])
    except (TypeError, ValueError, RuntimeError):
        raise unlike(rate, "mtt", "the learned step size, one number", value) from None
    check_step_sizes(rate, size)
    one_step = torch.zeros(len(images), dtype=torch.int64)
    return Foreign(images, y, pixels=False, step_sizes=size, step_index=one_step)


def read_idc(path: Path) -> Foreign:
    """Read ``data.pt`` of IDC's code: [images, labels], pixels in [0, 1], stored images
    undivided."""
    file = path / "data.pt" if path.is_dir() else path
    return Foreign(*pair(file, "idc", load_torch(file)), pixels=True)


def read_dd(path: Path) -> Foreign:
    """Read ``results.pth`` of the code of DD (Wang et al. 2018): a list of (images, labels, step
    size), one for each step of each epoch; the images of a step come again in every epoch."""
    file = path / "results.pth" if path.is_dir() else path
    content = load_torch(file)
    is_list = isinstance(content, list) and content
    if not is_list or not all(isinstance(s, tuple | list) and len(s) == 3 for s in content):
        raise unlike(file, "dd", STEPS, content)
    pairs = [pair(file, "dd", step[:2]) for step in content]
    try:
        sizes = torch.stack([torch.as_tensor(step[2]).float().reshape(()) for step in content])
    except (RuntimeError, TypeError, ValueError):
        raise unlike(file, "dd", STEPS, content[0]) from None
    check_step_sizes(file, sizes)
    steps = period([images for images, _ in pairs])
    images = torch.cat([x for x, _ in pairs[:steps]])
    labels = torch.cat([y for _, y in pairs[:steps]])
    index = torch.cat([torch.full((len(pairs[s][0]),), s) for s in range(steps)])
    return Foreign(images, labels, pixels=False, step_sizes=sizes.view(-1, steps), step_index=index)


def period(images: Sequence[Tensor]) -> int:
    """Return the number of steps after which the images come again from the first on."""
    for steps in range(1, len(images)):
        if len(images) % steps == 0 and all(
            torch.equal(images[i], images[i % steps]) for i in range(steps, len(images))
        ):
            return steps
    return len(images)


def check_step_sizes(file: Path, sizes: Tensor) -> None:
    if not bool((sizes.isfinite() & (sizes > 0)).all()):
        values = sizes.flatten().tolist()[:5]
        raise DdistError(f"{file} has the step sizes {values}: above 0 was expected.")


def read_folder(path: Path, class_names: Sequence[str], channels: int) -> Foreign:
    """Read pictures in class folders, named as the classes are or ``00003`` or ``00003_cat`` by
    their number; soft labels and weights from ``metadata.jsonl``, as task=export writes it."""
    root = path / "train" if (path / "train").is_dir() else path
    folders = class_folders(root)
    classes = class_numbers(root, folders, class_names)
    listing = [
        (file.relative_to(root).as_posix(), label)
        for name, label in zip(folders, classes, strict=True)
        for file in find_pictures(root / name)
    ]
    if not listing:
        raise DdistError(f"{path} has no pictures in class folders.")
    lines = metadata(root / "metadata.jsonl")
    if lines:  # in the order in which they were written
        order = {name: place for place, name in enumerate(lines)}
        listing.sort(key=lambda picture: order.get(picture[0], len(order)))
    images = decode_separately([root / name for name, _ in listing])
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise DdistError(f"The pictures below {path} differ in size: {sorted(shapes)[:3]}.")
    x = to_channels(torch.stack(images), channels).float() / 255
    y = torch.tensor([label for _, label in listing])
    rows = [lines.get(name, {}) for name, _ in listing]
    soft, weights = column(root, rows, "soft_label"), column(root, rows, "weight")
    return Foreign(x, y if soft is None else soft, pixels=True, weights=weights)


def class_numbers(root: Path, folders: list[str], class_names: Sequence[str]) -> list[int]:
    """Return the label of each folder. Raises DdistError unless the names say it: an order guessed
    from the alphabet has cost others half their accuracy."""
    if set(folders) <= set(class_names):
        return [list(class_names).index(name) for name in folders]
    numbers = [re.fullmatch(r"(\d+)(?:_.*)?", name) for name in folders]
    labels = [int(number[1]) for number in numbers if number]
    if len(labels) == len(folders) and max(labels, default=0) < len(class_names):
        return labels
    unnumbered = [name for name, number in zip(folders, numbers, strict=True) if number is None]
    unknown = next((name for name in unnumbered if name not in class_names), folders[0])
    raise DdistError(
        f"{root} has the folder {unknown!r}, which is neither a class of the dataset "
        f"({', '.join(class_names[:5])}{', …' if len(class_names) > 5 else ''}) nor its number "
        "(00000, 00001, …): rename the folders."
    )


def metadata(file: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of metadata.jsonl by the pictures' names; nothing where there is none."""
    if not file.exists():
        return {}
    with opened(file):
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        return {line["file_name"]: line for line in lines}


def column(root: Path, rows: list[dict[str, Any]], name: str) -> Tensor | None:
    """Return what metadata.jsonl says of all pictures under ``name``, or None."""
    values = [row.get(name) for row in rows]
    if all(value is None for value in values):
        return None
    try:
        return torch.tensor(values, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError):
        raise DdistError(
            f"{root / 'metadata.jsonl'} does not have a {name} of one kind for every picture."
        ) from None


def read_own(path: Path, format: str) -> DistilledDataset:
    """Read what task=export wrote: distilled.pt or distilled.npz, or the folder that holds it."""
    name = {"torch": "distilled.pt", "npz": "distilled.npz"}[format]
    file = path / name if path.is_dir() else path
    content = load_torch(file) if format == "torch" else load_npz(file)
    if not isinstance(content, dict) or not {"images", "labels", "meta"} <= content.keys():
        raise unlike(file, format, "the tensors that task=export writes", content)
    try:
        meta = json.loads(str(content["meta"]))
        words = meta.pop("normalization")
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        return DistilledDataset(
            **{name: tensors.get(name) for name in TENSORS},  # type: ignore[arg-type]
            initial_weights=below("initial_weights.", tensors) or None,
            normalization={**words, **below("normalization.", tensors)},
            meta=meta,
            config=str(content.get("config", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DdistError(f"{file} was changed since task=export wrote it ({error}).") from None


def select(path: Path, sets: Sequence[Any], index: int) -> Any:
    """Return the set at ``index``. Raises DdistError where there is none."""
    if not 0 <= index < len(sets):
        raise DdistError(
            f"{path} holds {len(sets)} set(s), so index is from 0 to {len(sets) - 1}, not {index}."
        )
    return sets[index]


def pair(path: Path, format: str, content: Any) -> tuple[Tensor, Tensor]:
    """Return images float32 and labels int64 or float32 of ``content``, known to fit together."""
    is_pair = isinstance(content, (list, tuple)) and len(content) == 2
    if not is_pair or not all(isinstance(tensor, Tensor) for tensor in content):
        raise unlike(path, format, "[images, labels], two tensors", content)
    images, labels = (tensor.detach() for tensor in content)
    num, soft = len(images), labels.ndim == 2
    if images.ndim != 4 or not images.is_floating_point() or num == 0:
        actual = f"{images.dtype} {list(images.shape)}"
        raise DdistError(f"{path}: images are floating-point [N, C, H, W], and these are {actual}.")
    if labels.ndim not in (1, 2) or len(labels) != num:
        actual = str(list(labels.shape))
        raise DdistError(
            f"{path}: {num} images need as many labels [N] or [N, K], and there are {actual}."
        )
    if soft and not labels.is_floating_point():
        raise DdistError(f"{path}: soft labels [N, K] are floating-point, not {labels.dtype}.")
    if not soft and labels.is_floating_point() and not (labels == labels.round()).all():
        raise DdistError(f"{path}: labels [N] are whole numbers, and these are not.")
    return images.float().contiguous(), (labels.float() if soft else labels.long()).contiguous()
