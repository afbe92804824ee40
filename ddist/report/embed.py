"""Images inside the page: PNG in data URIs, as many as a page can bear."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from ddist.artifact.grid import MAX_IMAGES, arrange, displayable, png
from ddist.data import Normalization

if TYPE_CHECKING:
    from ddist.artifact.dataset import DistilledDataset

MAX_IMAGE_BYTES = 4_000_000  # of the set's images, before compression
MAX_PICTURE_BYTES = 8_000_000  # of the pictures over the steps, as files


@dataclass(frozen=True)
class Embedded:
    """An image of ``width`` x ``height`` pixels and what is said of it."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int


def images_by_class(distilled: "DistilledDataset") -> tuple[list[tuple[str, list[Embedded]]], str]:
    """Return the synthetic images as stored, by class in the order of the steps, and a note on how
    values became colours and on what is left out: at most ``MAX_IMAGES`` images and
    ``MAX_IMAGE_BYTES`` bytes are shown."""
    labels, names = distilled.labels.cpu(), distilled.meta["class_names"]
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    image_bytes = 3 * distilled.images[0, 0].numel()
    limit = max(1, min(MAX_IMAGES, MAX_IMAGE_BYTES // image_bytes))
    steps = distilled.step_index
    rows, left_out = arrange(hard, hard * 0 if steps is None else steps.cpu(), limit)
    chosen = [index for indices in rows.values() for index in indices]
    to_pixels = Normalization.from_state(distilled.normalization).inverse
    shown, mapping = displayable(to_pixels(distilled.images.detach().cpu()[chosen]), "auto")
    uris = {index: png_uri(image_png(image)) for index, image in zip(chosen, shown, strict=True)}
    height, width = shown.shape[2:]
    classes = [
        (
            names[label],
            [
                Embedded(
                    uris[index],
                    f"distilled image {index} of class {names[label]}",
                    caption(distilled, index, names[label]),
                    width,
                    height,
                )
                for index in indices
            ],
        )
        for label, indices in rows.items()
    ]
    return classes, " · ".join(filter(None, [mapping, left_out]))


def caption(distilled: "DistilledDataset", index: int, name: str) -> str:
    """Return ``3 · image 17 · step 2 · weight 1.25 · label 3 0.91, 8 0.05``."""
    words = [name, f"image {index}"]
    if distilled.step_index is not None and int(distilled.step_index.max()) > 0:
        words.append(f"step {int(distilled.step_index[index]) + 1}")
    if distilled.weights is not None:
        words.append(f"weight {float(distilled.weights[index]):.4g}")
    if distilled.labels.is_floating_point():
        names = distilled.meta["class_names"]
        top = distilled.labels[index].topk(min(3, len(names)))
        scores = [f"{names[int(k)]} {float(v):.3g}" for v, k in zip(*top, strict=True)]
        words.append(f"label {', '.join(scores)}")
    return " · ".join(words)


def pictures_over_steps(
    pictures: Sequence[tuple[int, bytes]],
) -> tuple[list[tuple[int, Embedded]], str]:
    """Return PNG files (outer step, content) in the order of the steps. Where all are more than
    ``MAX_PICTURE_BYTES``, as many as fit, evenly spaced to the last, and a note says so; what is no
    picture is left out."""
    readable = [
        (step, size, content) for step, content in sorted(pictures) if (size := png_size(content))
    ]
    for count in range(len(readable), 0, -1):
        spaced = np.linspace(len(readable) - 1, 0, count).round().astype(int)[::-1]
        shown = [readable[i] for i in spaced]
        if sum(len(content) for *_, content in shown) <= MAX_PICTURE_BYTES:
            break
    else:
        return [], ""
    embedded = [
        (step, Embedded(png_uri(content), f"all images after step {step}", f"step {step:,}", *size))
        for step, size, content in shown
    ]
    note = "" if len(shown) == len(readable) else f"{len(shown)} of {len(readable)} pictures"
    return embedded, note


def png_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a complete PNG file; None of anything else."""
    try:
        with Image.open(io.BytesIO(content), formats=["png"]) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError, ValueError):
        return None


def image_png(image: Tensor) -> bytes:
    """Return uint8 [C, H, W] as a PNG file: grey, RGB, or the mean of any other number of
    channels."""
    if len(image) not in (1, 3):
        image = image.float().mean(0, keepdim=True).round().byte()
    array = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
    return png(Image.fromarray(np.ascontiguousarray(array)), optimize=False)


def png_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
