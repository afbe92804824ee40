"""Sets of others as tensors in whatever files: one or several, torch's or numpy's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.exchange.foreign import Foreign, kind_of, load, load_npz, pair, unlike

# Names under which the field's code keeps the two, in lower case; looked up in this order.
IMAGES = ("images", "image", "image_syn", "syn_images", "images_train", "x", "x_train", "data",
          "imgs", "img", "support", "x_proto", "syn_data")  # fmt: skip
LABELS = ("labels", "label", "label_syn", "syn_labels", "labels_train", "y", "y_train", "targets",
          "target", "y_proto", "syn_label")  # fmt: skip
ENDINGS = (".pt", ".pth", ".npz", ".npy", ".safetensors")
WANTED = "[images, labels], a dict of both, or one of them in each of several files"


def read_results(path: Path) -> Foreign:
    """``results.pth`` of the code of DD (Wang et al. 2018): a list of (images, labels, step size),
    one for each step of each epoch; the images of a step come again in every epoch."""
    file = path / "results.pth" if path.is_dir() else path
    content = load(file)
    wanted = "a list of (images, labels, step size)"
    whole = isinstance(content, list) and content
    if not whole or not all(isinstance(step, tuple | list) and len(step) == 3 for step in content):
        raise unlike(file, "dd", wanted, content)
    pairs = [pair(file, "dd", step[:2]) for step in content]
    try:
        sizes = torch.stack([torch.as_tensor(step[2]).float().reshape(()) for step in content])
    except (RuntimeError, TypeError, ValueError):
        raise unlike(file, "dd", wanted, content[0]) from None
    if not bool((sizes.isfinite() & (sizes > 0)).all()):
        raise DdistError(f"{file} has the step sizes {sizes.tolist()[:5]}: above 0 was expected.")
    steps = period([images for images, _ in pairs])
    images = torch.cat([x for x, _ in pairs[:steps]])
    labels = torch.cat([y for _, y in pairs[:steps]])
    index = torch.cat([torch.full((len(pairs[s][0]),), s) for s in range(steps)])
    return Foreign(images, labels, pixels=False, step_sizes=sizes.view(-1, steps), step_index=index)


def period(images: Sequence[Tensor]) -> int:
    """The number of steps after which the images come again from the first on."""
    for steps in range(1, len(images)):
        if len(images) % steps == 0 and all(
            torch.equal(images[i], images[i % steps]) for i in range(steps, len(images))
        ):
            return steps
    return len(images)


def read_tensors(
    paths: Sequence[Path], labels: Sequence[Path], index: int, image_shape: tuple[int, ...]
) -> Foreign:
    """Images and labels of files or of the files in folders, in their order.

    A file holds [images, labels] (or a tuple, a dict with common names, a list of several such
    pairs or DC's dict, of which ``index`` takes one), or the images alone where ``labels``, or
    other files there with "label" or "target" in their names, hold the labels. Images [N, H, W, C]
    of numpy's and TensorFlow's kin are turned, uint8 ones are divided by 255.
    """
    files, named = split([file for path in paths for file in tensor_files(path)])
    label_files = [file for path in labels for file in tensor_files(path)] or named
    if label_files:
        x = [alone(file, IMAGES) for file in files]
        y = [alone(file, LABELS) for file in label_files]
    else:
        both = [find_pair(file, content_of(file), index) for file in files]
        x, y = [images for images, _ in both], [labels for _, labels in both]
    try:
        images, found = torch.cat(x), torch.cat(y)
    except RuntimeError:
        shapes = ", ".join(str(list(each.shape)) for each in [*x, *y][:6])
        raise DdistError(f"The parts in {paths[0]} do not fit together: {shapes}.") from None
    turned = images.ndim == 4 and tuple(images.shape[1:]) != tuple(image_shape)
    if turned and tuple(images.permute(0, 3, 1, 2).shape[1:]) == tuple(image_shape):
        images = images.permute(0, 3, 1, 2)
    pixels = images.dtype == torch.uint8
    images = images.float() / 255 if pixels else images
    return Foreign(*pair(paths[0], "tensors", (images, found)), pixels=pixels)


def tensor_files(path: Path) -> list[Path]:
    """``path``, or the files of tensors in it, in the order of the numbers in their names."""
    if not path.is_dir():
        return [path]
    files = [each for each in path.iterdir() if each.suffix in ENDINGS]
    if not files:
        raise DdistError(f"{path} holds no file that ends with {', '.join(ENDINGS)}.")
    return sorted(
        files,
        key=lambda file: [
            (int(word), "") if word.isdigit() else (0, word)
            for word in re.split(r"(\d+)", file.name)
        ],
    )


def split(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Those without and with a name of labels; all as the first where none remains."""
    labels = [f for f in files if re.search("label|target", f.stem, re.IGNORECASE)]
    others = [f for f in files if f not in labels]
    return (others, labels) if others else (files, [])


def content_of(file: Path) -> Any:
    match file.suffix:
        case ".npz" | ".npy":
            return load_npz(file)
        case ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(file)
            except FileNotFoundError:
                raise DdistError(f"There is no file {file}.") from None
            except (SafetensorError, OSError) as error:
                raise DdistError(f"{file} is damaged: copy it again ({error}).") from None
        case _:
            return load(file)


def find_pair(file: Path, content: Any, index: int) -> tuple[Tensor, Tensor]:
    """Images and labels, as they are in ``content``."""
    if isinstance(content, dict):
        x, y = under(content, IMAGES), under(content, LABELS)
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return x, y
        if isinstance(x, list | tuple):  # DC's list under "data"
            return find_pair(file, x, index)
    elif isinstance(content, list | tuple) and len(content) > 0:
        if len(content) == 2 and all(isinstance(each, Tensor) for each in content):
            return content[0], content[1]
        if all(isinstance(each, list | tuple | dict) for each in content):
            if not 0 <= index < len(content):
                raise DdistError(
                    f"{file} holds {len(content)} set(s), so index is from 0 to "
                    f"{len(content) - 1}, not {index}."
                )
            return find_pair(file, content[index], index)
    raise unlike(file, "tensors", WANTED, content)


def alone(file: Path, names: Sequence[str]) -> Tensor:
    """The one tensor of ``file``, or the one under the first of ``names`` that it has."""
    content = content_of(file)
    found = under(content, names) if isinstance(content, dict) else content
    if isinstance(content, dict) and found is None and len(content) == 1:
        found = next(iter(content.values()))
    if isinstance(found, list | tuple) and found and all(isinstance(e, Tensor) for e in found):
        found = torch.stack(list(found)) if len({e.shape for e in found}) == 1 else found
    if not isinstance(found, Tensor):
        raise DdistError(f"{file} holds {kind_of(content)} where one tensor was expected.")
    return found


def under(content: dict[Any, Any], names: Sequence[str]) -> Any:
    known = {str(key).lower(): value for key, value in content.items()}
    return next((known[name] for name in names if name in known), None)
