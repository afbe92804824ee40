"""Sets of others as tensors in whatever files: one or several, torch's or numpy's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.exchange.foreign import Foreign, pair, select
from ddist.exchange.opening import load, unlike

# Names under which the field's code keeps the two, in lower case; looked up in this order.
IMAGES = ("images", "image", "image_syn", "syn_images", "images_train", "x", "x_train", "data",
          "imgs", "img", "support", "x_proto", "syn_data")  # fmt: skip
LABELS = ("labels", "label", "label_syn", "syn_labels", "labels_train", "y", "y_train", "targets",
          "target", "y_proto", "syn_label")  # fmt: skip
ENDINGS = (".pt", ".pth", ".npz", ".npy", ".safetensors")
EXPECTED = "[images, labels], a dict of both, or one of them in each of several files"


def read_tensors(
    paths: Sequence[Path], labels: Sequence[Path], index: int, image_shape: tuple[int, ...]
) -> Foreign:
    """Read images and labels of files or of the files in folders, in their order.

    A file holds [images, labels] (or a tuple, a dict with common names, a list of several such
    pairs or DC's dict, of which ``index`` takes one), or the images alone where ``labels``, or
    other files there with "label" or "target" in their names, hold the labels. Images [N, H, W, C]
    of numpy's and TensorFlow's kin are turned, uint8 ones are divided by 255.
    """
    files, files_named_labels = split([file for path in paths for file in tensor_files(path)])
    label_files = [file for path in labels for file in tensor_files(path)] or files_named_labels
    if label_files:
        x = [only_tensor(file, IMAGES) for file in files]
        y = [only_tensor(file, LABELS) for file in label_files]
    else:
        pairs = [find_pair(file, load(file), index) for file in files]
        x, y = [images for images, _ in pairs], [labels for _, labels in pairs]
    try:
        images, all_labels = torch.cat(x), torch.cat(y)
    except RuntimeError:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in [*x, *y][:6])
        raise DdistError(f"The parts in {paths[0]} do not fit together: {shapes}.") from None
    if images.ndim == 4 and tuple(images.shape[1:]) != tuple(image_shape):
        turned = images.permute(0, 3, 1, 2)
        images = turned if tuple(turned.shape[1:]) == tuple(image_shape) else images
    pixels = images.dtype == torch.uint8
    images = images.float() / 255 if pixels else images
    return Foreign(*pair(paths[0], "tensors", (images, all_labels)), pixels=pixels)


def tensor_files(path: Path) -> list[Path]:
    """Return ``path``, or the files of tensors in it by the numbers in their names."""
    if not path.is_dir():
        return [path]
    files = [file for file in path.iterdir() if file.suffix in ENDINGS]
    if not files:
        raise DdistError(f"{path} holds no file that ends with {', '.join(ENDINGS)}.")

    def natural(file: Path) -> list[tuple[int, str]]:
        words = re.split(r"(\d+)", file.name)
        return [(int(word), "") if word.isdigit() else (0, word) for word in words]

    return sorted(files, key=natural)


def split(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return those without and with a name of labels; all as the first where none remains."""
    labels = [f for f in files if re.search("label|target", f.stem, re.IGNORECASE)]
    others = [f for f in files if f not in labels]
    return (others, labels) if others else (files, [])


def find_pair(file: Path, content: Any, index: int) -> tuple[Tensor, Tensor]:
    """Return images and labels, as they are in ``content``."""
    if isinstance(content, dict):
        x, y = lookup(content, IMAGES), lookup(content, LABELS)
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return x, y
        if isinstance(x, list | tuple):  # DC's list under "data"
            return find_pair(file, x, index)
    elif isinstance(content, list | tuple) and len(content) > 0:
        if len(content) == 2 and all(isinstance(tensor, Tensor) for tensor in content):
            return content[0], content[1]
        if all(isinstance(item, list | tuple | dict) for item in content):
            return find_pair(file, select(file, content, index), index)
    raise unlike(file, "tensors", EXPECTED, content)


def only_tensor(file: Path, names: Sequence[str]) -> Tensor:
    """Return the one tensor of ``file``, or the one under the first of ``names`` that it has."""
    content = load(file)
    tensor = content
    if isinstance(content, dict):
        only = next(iter(content.values())) if len(content) == 1 else None
        tensor = lookup(content, names)
        tensor = only if tensor is None else tensor
    if isinstance(tensor, list | tuple) and tensor and all(isinstance(t, Tensor) for t in tensor):
        tensor = torch.stack(list(tensor)) if len({t.shape for t in tensor}) == 1 else tensor
    if not isinstance(tensor, Tensor):
        raise unlike(file, "tensors", "one tensor", content)
    return tensor


def lookup(content: dict[Any, Any], names: Sequence[str]) -> Any:
    """Return the value under the first of ``names`` that is a key in any case; None without one."""
    lower = {str(key).lower(): value for key, value in content.items()}
    return next((lower[name] for name in names if name in lower), None)
