"""READMEs of exported sets: code that reads the files in their folder, without ddist."""

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.soft_labels import are_probabilities

START = {
    "torch": """\
import torch

stored = torch.load("distilled.pt", weights_only=True)
""",
    "npz": """\
import numpy as np
import torch

with np.load("distilled.npz") as file:
    arrays = {{name: file[name] for name in file.files}}
stored = {{k: torch.from_numpy(a) for k, a in arrays.items() if a.dtype.kind != "U"}}
""",
    "png": """\
import json

import numpy as np
import torch
from PIL import Image

with np.load("tensors.npz") as file:  # what pictures cannot hold
    stored = {{name: torch.from_numpy(file[name]) for name in file.files}}
with open("train/metadata.jsonl", encoding="utf-8") as lines:
    rows = [json.loads(line) for line in lines]
pictures = [np.array(Image.open("train/" + row["file_name"])) for row in rows]
pixels = torch.from_numpy(np.stack(pictures)).view({count}, {height}, {width}, {channels})
pixels = pixels.permute(0, 3, 1, 2) / 255
stored["labels"] = torch.tensor([row["{label}"] for row in rows])
""",
}
NORMALIZE = {
    "none": "    return pixels\n",
    "mean_std": """\
    mean, std = stored["normalization.mean"], stored["normalization.std"]
    return (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
""",
    "zca": """\
    centred = pixels.flatten(1) - stored["normalization.mean"]
    return (centred @ stored["normalization.whiten"]).view_as(pixels)
""",
}
DEFINE = """

def normalize(pixels):  # [N, C, H, W], float in [0, 1], to the space of training
"""
IMAGES = """

images, labels = stored["images"], stored["labels"]
"""
PNG_IMAGES = """

images, labels = normalize(pixels), stored["labels"]
"""
WEIGHTS = 'weights = stored["weights"]  # in the loss\n'
PNG_WEIGHTS = (
    'weights = torch.tensor([row["weight"] for row in rows])  # of the images in the loss\n'
)
TILED_WEIGHTS = "weights = weights.repeat_interleave({factor} ** 2, 0)\n"
SPACE = """\
Networks are trained in the space of `images`; test images go there by `normalize`.
"""
TILES = """\

# {factor} x {factor} training images are in each stored one, as tiles
tiles = images.unflatten(3, ({factor}, -1)).unflatten(2, ({factor}, -1))  # [N, C, f, h, f, w]
tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
images = torch.nn.functional.interpolate(tiles, size=({height}, {width}), mode="bilinear")
labels = labels.repeat_interleave({factor} ** 2, 0)
"""
TEACHER = """\

# a teacher's labels, stored at temperature {temperature:g}: at temperature 1
labels = labels.float() ** {temperature:g}
labels = labels / labels.sum(1, keepdim=True)
"""
NEAREST = """\

# the learned labels, stored["labels"], are no probabilities: the nearest ones
ranked = labels.float().sort(1, descending=True).values
shifts = (ranked.cumsum(1) - 1) / torch.arange(1, labels.shape[1] + 1)
kept = (ranked > shifts).sum(1, keepdim=True)
labels = (labels - shifts.gather(1, kept - 1)).clamp_min(0)
"""
REPLAY = """
The order of the steps and their sizes were learned together with the images, for {epochs}
epoch(s) of {steps} step(s) of plain gradient descent. Other ways of training give less.

```python
def train(network):
    step_of = stored["step_index"].repeat_interleave({factor} ** 2)
    for epoch in stored["step_sizes"]:
        for step, step_size in enumerate(epoch):
            x, y = images[step_of == step], labels[step_of == step]
            loss = torch.nn.functional.cross_entropy(network(x), y)
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(network.parameters(), gradients):
                    weight -= step_size * gradient
```
"""
FIXED = """
They were made for one fixed start of the network, and the figures hold for it only:

```python
prefix = "initial_weights."
start = {k[len(prefix):]: w for k, w in stored.items() if k.startswith(prefix)}
# network.load_state_dict(start, strict=False)
```
"""
REGRESSION = """
The labels were made for kernel regression and are no probabilities: `stored["labels"]` has them as
they are, for squared errors, and `labels` the nearest probabilities.
"""
ROUNDED = "Pixels are rounded to 8 bits and clamped to [0, 1]: the other formats are exact.\n\n"
REST = "Everything else is in the file's `meta` (JSON) and `config` (YAML).\n"
ELSEWHERE = {
    "torch": REST,
    "npz": REST,
    "png": "",
}


def loading(distilled: DistilledDataset, format: str) -> str:
    """How to load the files of ``format`` (png, npz or torch) and to train on them, in Markdown.

    The first block of code leaves ``images`` [M, C, H, W] in training space, their ``labels`` (and
    ``weights``) as ``distilled.examples()`` has them, and ``normalize`` for test
    images.
    """
    text = f"In this folder, without ddist:\n\n```python\n{code(distilled, format)}```\n\n"
    text += ROUNDED if format == "png" else ""
    text += SPACE + (REGRESSION if learned_by_regression(distilled) else "")
    if distilled.step_sizes is not None:
        epochs, steps = distilled.step_sizes.shape
        text += REPLAY.format(epochs=epochs, steps=steps, factor=distilled.factor)
    return text + (FIXED if distilled.initial_weights is not None else "")


def code(distilled: DistilledDataset, format: str) -> str:
    """The Python that :func:`loading` shows first."""
    channels, height, width = distilled.images.shape[1:]
    values = {
        "count": len(distilled.images),
        "channels": channels,
        "height": height,
        "width": width,
        "factor": distilled.factor,
        "temperature": distilled.label_temperature,
        "label": "soft_label" if distilled.labels.is_floating_point() else "label",
    }
    png, weighted = format == "png", distilled.weights is not None
    tiled = distilled.factor > 1
    shown = {
        START[format]: True,
        DEFINE: True,
        NORMALIZE[str(distilled.normalization["kind"])]: True,
        PNG_IMAGES if png else IMAGES: True,
        PNG_WEIGHTS if png else WEIGHTS: weighted,
        TILES: tiled,
        TILED_WEIGHTS: tiled and weighted,
        TEACHER: distilled.label_temperature is not None,
        NEAREST: learned_by_regression(distilled),
    }
    return "".join(part.format(**values) for part, needed in shown.items() if needed)


def learned_by_regression(distilled: DistilledDataset) -> bool:
    """Whether the labels are numbers that are no probabilities."""
    soft = distilled.label_temperature is None and distilled.labels.is_floating_point()
    return soft and not bool(are_probabilities(distilled.labels).all())
