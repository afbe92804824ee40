"""Distilled sets as the field's own code writes them. Nothing that a file asks to be run is run."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import TENSORS, below
from ddist.data.pixels import to_channels
from ddist.data.sources.listing import class_folders, find_pictures
from ddist.data.sources.pictures import decode_separately
from ddist.errors import DdistError

# DC's code counts with numpy, so its accuracies beside the images are numpy's numbers.
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class Foreign:
    """What a file holds."""

    images: Tensor  # float32 [N, C, H, W], in training space or pixels: the file does not say
    labels: Tensor  # int64 [N] or float [N, K]
    pixels: bool  # whether the format has pixels in [0, 1] always
    step_sizes: Tensor | None = None  # float32 [E, S], that were learned with the images
    step_index: Tensor | None = None  # int64 [N]: the step of each image
    weights: Tensor | None = None


def read_dc(path: Path, index: int) -> Foreign:
    """``res_*.pt`` of the code of DC, DSA, DM and CAFE: a dict whose "data" lists [images, labels],
    one for each experiment, of which the one at ``index`` is read."""
    content = load(path)
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, (list, tuple)) or not data:
        raise unlike(path, "dc", "a dict with a list of [images, labels] under 'data'", content)
    if not 0 <= index < len(data):
        raise DdistError(
            f"{path} holds {len(data)} set(s), so index is from 0 to {len(data) - 1}, not {index}."
        )
    return Foreign(*pair(path, "dc", data[index]), pixels=False)


def read_mtt(path: Path) -> Foreign:
    """``images_best.pt`` beside ``labels_best.pt``, as the code of MTT and its kin writes them; and
    the learned step size ``lr_best.pt``, where it is there. ``path`` is their folder or the
    images'."""
    file = path / "images_best.pt" if path.is_dir() else path
    if "images" not in file.name:
        raise DdistError(f"{file} is not called images_*.pt: path is the images' file or folder.")
    labels = file.with_name(file.name.replace("images", "labels"))
    found = pair(file, "mtt", (load(file), load(labels)))
    rate = file.with_name(file.name.replace("images", "lr"))
    step_size = None
    if rate.exists():
        value = load(rate)
        try:
            step_size = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise unlike(rate, "mtt", "the learned step size, one number", value) from None
        if not (step_size > 0 and step_size < float("inf")):
            raise DdistError(f"{rate} has the step size {step_size}: one above 0 was expected.")
    if step_size is None:
        return Foreign(*found, pixels=False)
    one = torch.zeros(len(found[0]), dtype=torch.int64)
    return Foreign(*found, False, step_sizes=torch.tensor([[step_size]]), step_index=one)


def read_idc(path: Path) -> Foreign:
    """``data.pt`` of IDC's code: [images, labels], pixels in [0, 1], stored images undivided."""
    file = path / "data.pt" if path.is_dir() else path
    return Foreign(*pair(file, "idc", load(file)), pixels=True)


def read_folder(path: Path, class_names: Sequence[str], channels: int) -> Foreign:
    """Pictures in class folders, named as the classes are or ``00003`` or ``00003_cat`` by their
    number; soft labels and weights from ``metadata.jsonl``, as task=export writes it."""
    root = path / "train" if (path / "train").is_dir() else path
    folders = class_folders(root)
    classes = class_numbers(root, folders, class_names)
    listing = [
        (file, label)
        for name, label in zip(folders, classes, strict=True)
        for file in find_pictures(root / name)
    ]
    if not listing:
        raise DdistError(f"{path} has no pictures in class folders.")
    told = metadata(root / "metadata.jsonl")
    if told:  # in the order in which they were written
        order = {name: place for place, name in enumerate(told)}
        listing.sort(key=lambda each: order.get(name_in(root, each[0]), len(order)))
    images = decode_separately([file for file, _ in listing])
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise DdistError(f"The pictures below {path} differ in size: {sorted(shapes)[:3]}.")
    x = to_channels(torch.stack(images), channels).float() / 255
    y = torch.tensor([label for _, label in listing])
    lines = [told.get(name_in(root, file), {}) for file, _ in listing]
    soft, weights = column(root, lines, "soft_label"), column(root, lines, "weight")
    return Foreign(x, y if soft is None else soft, pixels=True, weights=weights)


def read_own(path: Path, format: str) -> DistilledDataset:
    """What task=export wrote: distilled.pt or distilled.npz, or the folder that holds it."""
    name = {"torch": "distilled.pt", "npz": "distilled.npz"}[format]
    file = path / name if path.is_dir() else path
    content = load(file) if format == "torch" else load_npz(file)
    if not isinstance(content, dict) or not {"images", "labels", "meta"} <= content.keys():
        raise unlike(file, format, "the tensors that task=export writes", content)
    try:
        meta = json.loads(str(content["meta"]))
        kinds = meta.pop("normalization")
        tensors = {name: each for name, each in content.items() if isinstance(each, Tensor)}
        return DistilledDataset(
            **{name: tensors.get(name) for name in TENSORS},  # type: ignore[arg-type]
            initial_weights=below("initial_weights.", tensors) or None,
            normalization={**kinds, **below("normalization.", tensors)},
            meta=meta,
            config=str(content.get("config", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DdistError(f"{file} was changed since task=export wrote it ({error}).") from None


def load(path: Path) -> Any:
    """A torch file, of tensors and plain values only. Raises DdistError."""
    try:
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version of pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DdistError(f"There is no file {path}.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise DdistError(f"{path} cannot be read ({error.strerror}).") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class) ([\w.]+)", str(error))
        if found is None:
            raise damaged(path) from None
        raise DdistError(
            f"{path} holds more than tensors ({found[1] or found[2]}), which would run code and is "
            "never loaded: save its tensors alone, with torch.save([images, labels], ...)."
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError,
            AttributeError):  # fmt: skip
        raise damaged(path) from None


def load_npz(path: Path) -> dict[str, Any]:
    """Tensors, and words, by name. Raises DdistError."""
    try:
        if path.suffix == ".npy":
            arrays = {path.stem: np.load(path, allow_pickle=False)}
        else:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DdistError(f"There is no file {path}.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, KeyError):
        raise damaged(path) from None
    return {
        name: str(array) if array.dtype.kind == "U" else torch.from_numpy(array)
        for name, array in arrays.items()
    }


def damaged(path: Path) -> DdistError:
    return DdistError(f"{path} is damaged, cut short or of another kind: copy it again.")


def pair(path: Path, format: str, found: Any) -> tuple[Tensor, Tensor]:
    """Images float32 and labels of ``found``, known to fit together."""
    wanted = "[images, labels], two tensors"
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise unlike(path, format, wanted, found)
    images, labels = found
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
        raise unlike(path, format, wanted, found)
    images, labels = images.detach(), labels.detach()
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        kind = f"{images.dtype} {list(images.shape)}"
        raise DdistError(f"{path}: images are floating-point [N, C, H, W], and these are {kind}.")
    if labels.ndim not in (1, 2) or len(labels) != len(images):
        raise DdistError(
            f"{path}: {len(images)} images need as many labels [N] or [N, K], and there are "
            f"{list(labels.shape)}."
        )
    if labels.ndim == 2 and not labels.is_floating_point():
        raise DdistError(f"{path}: soft labels [N, K] are floating-point, not {labels.dtype}.")
    labels = labels.float() if labels.ndim == 2 else whole(path, labels)
    return images.float().contiguous(), labels.contiguous()


def whole(path: Path, labels: Tensor) -> Tensor:
    if labels.is_floating_point() and not (labels == labels.round()).all():
        raise DdistError(f"{path}: labels [N] are whole numbers, and these are not.")
    return labels.long()


def unlike(path: Path, format: str, wanted: str, found: Any) -> DdistError:
    return DdistError(f"{path} is not as format={format} has it: {wanted}, not {kind_of(found)}.")


def kind_of(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor {list(found.shape)}"
    if isinstance(found, dict):
        return f"a dict of {', '.join(map(str, list(found)[:4])) or 'nothing'}"
    if isinstance(found, (list, tuple)):
        return f"a list of {len(found)}"
    return f"a {type(found).__name__}"


def class_numbers(root: Path, folders: list[str], class_names: Sequence[str]) -> list[int]:
    """The label of each folder. Raises DdistError unless the names say it: an order guessed from
    the alphabet has cost others half their accuracy."""
    if set(folders) <= set(class_names):
        return [list(class_names).index(name) for name in folders]
    numbers = [re.fullmatch(r"(\d+)(?:_.*)?", name) for name in folders]
    found = [int(number[1]) for number in numbers if number]
    if len(found) == len(folders) and max(found, default=0) < len(class_names):
        return found
    neither = [name for name, number in zip(folders, numbers, strict=True) if number is None]
    unknown = next((name for name in neither if name not in class_names), folders[0])
    raise DdistError(
        f"{root} has the folder {unknown!r}, which is neither a class of the dataset "
        f"({', '.join(class_names[:5])}{', …' if len(class_names) > 5 else ''}) nor its number "
        "(00000, 00001, …): rename the folders."
    )


def metadata(file: Path) -> dict[str, dict[str, Any]]:
    """The lines of metadata.jsonl by the pictures' names; nothing where there is none."""
    if not file.exists():
        return {}
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        return {line["file_name"]: line for line in lines}
    except (ValueError, KeyError, TypeError, OSError):
        raise DdistError(f"{file} is damaged: copy it again, or remove it.") from None


def name_in(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()


def column(root: Path, lines: list[dict[str, Any]], name: str) -> Tensor | None:
    """What metadata.jsonl says of all pictures under ``name``; None where it says nothing."""
    values = [line.get(name) for line in lines]
    if all(value is None for value in values):
        return None
    try:
        return torch.tensor(values, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError):
        raise DdistError(
            f"{root / 'metadata.jsonl'} does not have a {name} of one kind for every picture."
        ) from None
