"""A distilled set in formats that other programs read, each with labels, weights and the card."""

import io
import json
import re
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from ddist.artifact.card import card, loading
from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import TENSORS
from ddist.errors import DdistError
from ddist.exchange import readme
from ddist.report.embed import image_png

Files = dict[str, bytes]

FORMATS = ("png", "npz", "torch", "hub")
LICENSE = "other"  # whoever uploads knows that of the real images
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))  # the hub's names
HUB = """\
`train/` has the images as pictures of 8 bits, with labels, soft labels, weights and steps in
`train/metadata.jsonl`: `datasets.load_dataset("imagefolder", data_dir="…")` reads them without a
network. `distilled/` has the same as it was learned, without rounding, and `meta.json` and
`config.yaml` with everything else.

"""


def exported(distilled: DistilledDataset, format: str) -> Files:
    """Return the files, by their paths in the exported folder. Raises DdistError for an unknown
    format.

    - png: train/<class>/*.png, pixels in [0, 1] rounded to 8 bits, and train/metadata.jsonl, which
      has for each picture its label and, where there are such, soft label, weight and step; what
      pictures cannot hold (normalisation, step sizes, a fixed start) in tensors.npz.
    - npz: distilled.npz for numpy, all as it was learned, in training space; no pickle.
    - torch: distilled.pt, the same for ``torch.load(..., weights_only=True)``.
    - hub: a folder of a Hugging Face dataset, png and the artifact itself, the card with its YAML.
    """
    tensors, texts = flat(distilled)
    match format:
        case "png":
            held = ("images", "labels", "weights")
            rest = {name: value for name, value in tensors.items() if name not in held}
            files = {**pictures(distilled), "tensors.npz": npz_file(rest, {})}
        case "npz":
            files = {"distilled.npz": npz_file(tensors, texts)}
        case "torch":
            buffer = io.BytesIO()
            torch.save({**tensors, **texts}, buffer)
            files = {"distilled.pt": buffer.getvalue()}
        case "hub":
            artifact = {f"distilled/{name}": file for name, file in distilled.files().items()}
            files = {**pictures(distilled), **artifact}
        case _:
            raise DdistError(f"task=export needs format={'|'.join(FORMATS)}, not {format!r}.")
    if format == "hub":
        text = front_matter(distilled) + card(distilled, HUB + loading(distilled, "distilled"), "")
    else:
        text = card(distilled, readme.loading(distilled, format), readme.ELSEWHERE[format])
    return {"README.md": text.encode(), "grid.png": distilled.picture(), **files}


def pictures(distilled: DistilledDataset) -> Files:
    """Return a folder for each class, whose sorted names are in the order of the labels. Raises
    DdistError for images that are neither grey nor RGB."""
    if distilled.images.shape[1] not in (1, 3):
        raise DdistError(
            f"Pictures have 1 or 3 channels and these images {distilled.images.shape[1]}: choose "
            "format=npz or format=torch."
        )
    names, labels = distilled.meta["class_names"], distilled.labels
    soft = labels.is_floating_point()
    classes = labels.argmax(1) if soft else labels
    pixels = (distilled.to_pixels() * 255).round().to(torch.uint8)
    files: Files = {}
    lines = []
    for i, (image, label) in enumerate(zip(pixels, classes, strict=True)):
        slug = re.sub(r"[^\w.-]+", "_", names[int(label)])
        folder = f"{int(label):05d}_{slug}"
        files[f"train/{folder}/{i:05d}.png"] = image_png(image)
        line: dict[str, Any] = {"file_name": f"{folder}/{i:05d}.png", "label": int(label)}
        if soft:
            line["soft_label"] = labels[i].float().tolist()
        if distilled.weights is not None:
            line["weight"] = float(distilled.weights[i])
        if distilled.step_index is not None:
            line["step"] = int(distilled.step_index[i])
        lines.append(json.dumps(line) + "\n")
    return {**files, "train/metadata.jsonl": "".join(lines).encode()}


def npz_file(tensors: dict[str, Tensor], texts: dict[str, str]) -> bytes:
    arrays = {name: value.numpy() for name, value in tensors.items()}
    arrays |= {name: np.array(text) for name, text in texts.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def front_matter(distilled: DistilledDataset) -> str:
    """Return the hub's description, in YAML: what the columns are, and which files are the data."""
    meta = distilled.meta
    names = {str(i): name for i, name in enumerate(meta["class_names"])}
    features: list[dict[str, Any]] = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    if distilled.labels.is_floating_point():
        features.append({"name": "soft_label", "sequence": "float32"})
    if distilled.weights is not None:
        features.append({"name": "weight", "dtype": "float32"})
    if distilled.step_index is not None:
        features.append({"name": "step", "dtype": "int64"})
    count = len(distilled.images)
    title = f"{meta['dataset']}, distilled to {meta['ipc']} per class by {meta['method']}"
    data_files = [{"split": "train", "path": "train/**"}]
    description = {
        "pretty_name": title,
        "license": LICENSE,
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "ddist", str(meta["method"])],
        "size_categories": [next((name for most, name in SIZES if count < most), "100K<n<1M")],
        "dataset_info": {"features": features},
        "configs": [{"config_name": "default", "data_files": data_files}],
    }
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n\n"


def flat(distilled: DistilledDataset) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors by name, and the words: meta (JSON), config (YAML)."""
    tensors = {name: value for name in TENSORS if (value := getattr(distilled, name)) is not None}
    state = distilled.normalization
    tensors |= {f"normalization.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    tensors |= {f"initial_weights.{k}": v for k, v in (distilled.initial_weights or {}).items()}
    words = {key: value for key, value in state.items() if isinstance(value, str)}
    meta = {**distilled.meta, "normalization": words}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return plain, {"meta": json.dumps(meta, ensure_ascii=False), "config": distilled.config}
