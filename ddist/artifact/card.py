"""The artifact's README: what this is, how to train on it, and how good it was found to be."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ddist.artifact.figures import accuracy, accuracy_rows, interval
from ddist.artifact.soft_labels import are_probabilities
from ddist.formatting import size

if TYPE_CHECKING:
    from ddist.artifact.dataset import DistilledDataset

FACTS = (
    "method",
    "objective",
    "network",
    "init",
    "steps",
    "seed",
    "protocol",
    "created",
    "versions",
)

LOAD = """\
```python
import ddist
from torch.utils.data import DataLoader

distilled = ddist.load("{folder}")  # from where this README lies
dataset = distilled.as_dataset()
images, labels = dataset.tensors[:2]  # in training space
batches = DataLoader(dataset, batch_size=256, shuffle=True)
pixels = distilled.to_pixels()  # [N, C, H, W], float in [0, 1]
```
"""
TILES = """\
Each stored image holds {factor}×{factor} training images as tiles; `as_dataset()` and `examples()`
cut them out and enlarge them.
"""
NORMALIZE = """\
The images lie in the space networks are trained in (`{kind}`), not in that of pixels. Test images
must go there too, from uint8 or [0, 1]:

```python
from ddist.data import Normalization

normalize = Normalization.from_state(distilled.normalization)
```
"""
REPLAY = """\
## Train as it was meant

The order of the steps and their sizes were learned together with the images, for {epochs}
epoch(s) of {steps} step(s) of plain gradient descent. Other ways of training give less.

```python
import torch

def train(network):
    for x, y, step_size in distilled.replay():
        loss = torch.nn.functional.cross_entropy(network(x), y)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(network.parameters(), gradients):
                weight -= step_size * gradient
```
"""
REGRESSION = """\
The labels were made for kernel regression and are no probabilities: `labels` has them as they are,
`as_dataset()` and `examples()` give the nearest probabilities.
"""
TEACHER = """\
The labels are a teacher's at temperature {temperature:g}, in half precision{kept}:
`as_dataset()` gives them at temperature 1, `examples(temperature=T)` at any other, for logits that
are divided by T as well.
"""
FIXED = """\
They were made for one fixed start of the network, and the figures hold for it only:
`network.load_state_dict(distilled.initial_weights, strict=False)`.
"""


def card(
    distilled: "DistilledDataset",
    load: str | None = None,
    elsewhere: str = "Everything else is in `meta.json` and `config.yaml`.\n",
) -> str:
    """Markdown. The figures come from ``meta["results"]`` (the dict of results.json) if present.
    ``load`` says how to load the set and to train on it (None: by ddist, from the folder of this
    README), ``elsewhere`` where all is that the card does not say."""
    meta = distilled.meta
    names, shape = meta["class_names"], "×".join(map(str, meta["image_shape"]))
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    title = f"{meta['dataset']}, distilled to {meta['ipc']} per class by {meta['method']}"
    parts = [
        f"# {title}\n\n![{title}](grid.png)\n",
        f"{len(distilled.images)} synthetic images of {shape} in {len(names)} classes ({listed}); "
        f"{size(distilled.num_bytes)} with labels. Made with ddist.\n",
        *fewer(names, meta.get("images_per_class"), meta["ipc"]),
        "## Load\n",
        loading(distilled, ".") if load is None else load,
    ]
    if "results" in meta:
        parts += ["## How good\n", figures(meta["results"])]
    unused = () if meta.get("uses_network", True) else ("network", "init")
    told = [key for key in FACTS if key not in unused and meta.get(key) is not None]
    facts = [(key, describe(meta[key])) for key in told]
    parts += ["## How it was made\n", markdown_table(("", ""), facts), elsewhere]
    return "\n".join(parts)


def fewer(names: Sequence[str], counts: Sequence[int] | None, ipc: int) -> list[str]:
    """A line on the classes that have fewer images than others."""
    if counts is None:
        return []
    told = [f"{name} {n}" for name, n in zip(names, counts, strict=True) if n < ipc]
    return [f"Classes with fewer images, as there are fewer real ones: {', '.join(told)}.\n"]


def loading(distilled: "DistilledDataset", folder: str) -> str:
    """How to load the artifact in ``folder`` with ddist, and to train on it."""
    meta = distilled.meta
    parts = [
        *([TILES.format(factor=distilled.factor)] if distilled.factor > 1 else []),
        LOAD.format(folder=folder),
        NORMALIZE.format(kind=distilled.normalization.get("kind")),
    ]
    if distilled.label_temperature is not None:
        top_k = meta.get("label_top_k")
        kept = "" if top_k is None else f", the {top_k} largest of each image"
        parts.append(TEACHER.format(temperature=distilled.label_temperature, kept=kept))
    elif distilled.labels.is_floating_point() and not are_probabilities(distilled.labels).all():
        parts.append(REGRESSION)
    if distilled.step_sizes is not None:
        epochs, steps = distilled.step_sizes.shape
        parts.append(REPLAY.format(epochs=epochs, steps=steps))
    if distilled.initial_weights is not None:
        parts.append(FIXED)
    return "\n".join(parts)


def figures(results: dict[str, Any]) -> str:
    """The accuracies as a markdown table; the protocol has a column, as figures of different
    protocols must not be compared."""
    head = ("trained on", "network", "protocol", "accuracy % (networks)", "95 % interval")
    rows = [
        (name, row["network"], row["protocol"], accuracy(row), interval(row))
        for name, row in accuracy_rows(results)
    ]
    return markdown_table(head, rows)


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def describe(value: Any) -> str:
    """One table cell: a mapping as ``key=value, ...``, led by its name if it has one."""
    if isinstance(value, dict):
        rest = [f"{key}={describe(item)}" for key, item in value.items() if key != "name"]
        name = [describe(value["name"])] if "name" in value else []
        return ", ".join(name + rest)
    return str(value).replace("|", "\\|").replace("\n", " ")
