"""The artifact's README: what this is, how to train on it, and how good it was found to be."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    "command",
    "licence_of_data",
)
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def card(
    distilled: "DistilledDataset",
    load: str | None = None,
    elsewhere: str = "Everything else is in `meta.json` and `config.yaml`.\n",
) -> str:
    """Return Markdown. The figures come from ``meta["results"]`` (the dict of results.json) if
    present. ``load`` says how to load the set and to train on it (None: by ddist, from the folder
    of this README), ``elsewhere`` where all is that the card does not say."""
    meta = distilled.meta
    unused = () if meta.get("uses_network", True) else ("network", "init")
    known = [key for key in FACTS if key not in unused and meta.get(key) is not None]
    return TEMPLATES.get_template("card.md.j2").render(
        title=f"{meta['dataset']}, distilled to {meta['ipc']} per class by {meta['method']}",
        num_images=len(distilled.images),
        shape="×".join(map(str, meta["image_shape"])),
        names=meta["class_names"],
        scarce=scarce_classes(meta),
        size=size(distilled.num_bytes),
        load=loading(distilled, meta.get("ready", ".")) if load is None else load,
        figures=figures(meta["results"]) if "results" in meta else None,
        facts=markdown_table(("", ""), [(key, describe(meta[key])) for key in known]),
        elsewhere=elsewhere,
    )


def scarce_classes(meta: Mapping[str, Any]) -> list[str]:
    """Name the classes that have fewer images than others, each with its number."""
    counts = zip(meta["class_names"], meta.get("images_per_class", []), strict=False)
    return [f"{name} {count}" for name, count in counts if count < meta["ipc"]]


def loading(distilled: "DistilledDataset", folder: str) -> str:
    """Say how to load the artifact in ``folder`` with ddist, and to train on it."""
    return TEMPLATES.get_template("loading.md.j2").render(
        distilled=distilled,
        folder=folder,
        top_k=distilled.meta.get("label_top_k"),
        by_regression=learned_by_regression(distilled),
    )


def learned_by_regression(distilled: "DistilledDataset") -> bool:
    """Tell whether the labels are numbers that are no probabilities."""
    soft = distilled.label_temperature is None and distilled.labels.is_floating_point()
    return soft and not bool(are_probabilities(distilled.labels).all())


def figures(results: dict[str, Any]) -> str:
    """Return the accuracies as a markdown table; the protocol has a column, as figures of different
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
    """Return one table cell: a mapping as ``key=value, ...``, led by its name if it has one."""
    if isinstance(value, dict):
        rest = [f"{key}={describe(item)}" for key, item in value.items() if key != "name"]
        name = [describe(value["name"])] if "name" in value else []
        return ", ".join(name + rest)
    return str(value).replace("|", "\\|").replace("\n", " ")
