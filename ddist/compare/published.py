"""Published figures (``published.yaml``), and the distance of a run's own figure from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ddist.compare.gather import Accuracy, Figure
from ddist.compare.settings import Setup
from ddist.settings.auto import AUTO, PUBLISHED_WIDTH, blocks

Networks = Mapping[str, Mapping[str, Any]]
"""The settings of conf/network, by name."""

KNOWN = {
    "seen": "in the paper, its code or its README",
    "comparison": "in a later paper's table or in a picture of a table",
    "memory": "from memory, not checked",
}


@dataclass(frozen=True)
class PublishedFigure:
    """One published accuracy, in fractions."""

    method: str
    dataset: str
    ipc: int  # 0: all training images
    protocol: str
    networks: tuple[str, ...]
    settings: Mapping[str, Any]  # of a run that can be compared, by their dotted names
    mean: float
    std: float | None
    paper: str
    arxiv: str
    known: str  # a key of KNOWN
    note: str | None


@dataclass(frozen=True)
class Comparison:
    """A run's figure beside the published one."""

    published: PublishedFigure | None
    difference: float | None  # ours - published, fractions; None where they are not comparable
    limit: float | None  # beyond which it is flagged
    note: str  # why there is no difference; may be empty

    @property
    def flagged(self) -> bool:
        """Tell whether the figures differ by more than chance explains."""
        return self.limit is not None and abs(self.difference or 0) > self.limit


PIXELS = {"synthetic.copies": 1, "synthetic.mirror": False}
"""Published images are stored as their pixels, but for what a figure's settings say."""


@cache
def document() -> Any:
    """Return what ``published.yaml`` holds."""
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """Return all figures of ``published.yaml``."""
    return tuple(
        PublishedFigure(
            **{key: entry[key] for key in ("method", "protocol", "paper", "arxiv", "known")},
            dataset=dataset,
            ipc=ipc,
            networks=tuple(
                [entry["network"]] if isinstance(entry["network"], str) else entry["network"]
            ),
            settings=entry.get("settings", {}),
            mean=mean / 100,
            std=std and std / 100,
            note=entry.get("note"),
        )
        for entry in document()["figures"]
        for dataset, by_ipc in entry["figures"].items()
        for ipc, (mean, std) in by_ipc.items()
    )


def full_data(setup: Setup, networks: Networks) -> PublishedFigure | None:
    """Return the published accuracy of the network of ``setup`` trained on the whole dataset."""
    if setup.objective:
        return None
    for figure in published_figures():
        is_full = (figure.method, figure.dataset) == ("full", setup.dataset)
        if is_full and not mismatches(setup, figure, networks):
            return figure
    return None


def cited(published: PublishedFigure) -> str:
    """Return the paper; where its figure was not seen there, also how that is known."""
    return published.paper + ("" if published.known == "seen" else f", {KNOWN[published.known]}")


def compare(
    figure: Figure, accuracy: Accuracy, networks: Networks, deviations: float, points: float
) -> Comparison:
    """Compare ``accuracy``, which ``figure`` and other seeds of the same settings have on average,
    with what is published of the method on the dataset with as many images.

    They are comparable under the same protocol, with the same network and the same settings (such
    as its width); else the note says what is different. The difference is flagged beyond
    ``deviations`` joint standard deviations sqrt(s_ours^2 + s_published^2); beyond ``points`` per
    cent where neither has one. ``networks`` are the settings of conf/network by name, of networks
    that the run's config does not describe.
    """
    if figure.objective:
        return Comparison(None, None, None, "")  # papers have no figure of the kind
    cell = (figure.method, figure.dataset, figure.ipc)
    known = [
        paper
        for paper in published_figures()
        if cell_of(paper) == cell and not of_other_images(figure, paper)
    ]
    comparable = [paper for paper in known if paper.protocol == figure.protocol]
    if not comparable:
        protocols = dict.fromkeys(paper.protocol for paper in known)
        note = f"published only under {' and '.join(protocols)}" if protocols else ""
        return Comparison(None, None, None, note)
    reasons, nearest = min(
        ((mismatches(figure, paper, networks), paper) for paper in comparable),
        key=lambda pair: len(pair[0]),
    )
    if reasons:
        return Comparison(nearest, None, None, f"not compared: {'; '.join(reasons)}")
    joint = math.hypot(accuracy.std or 0, nearest.std or 0)
    limit = deviations * joint if joint else points / 100
    return Comparison(nearest, accuracy.mean - nearest.mean, limit, "")


def cell_of(published: PublishedFigure) -> tuple[str, str, int]:
    """Return where the figure stands in a paper's table: method, dataset, images per class."""
    return published.method, published.dataset, published.ipc


def of_other_images(setup: Setup, published: PublishedFigure) -> bool:
    """Tell whether a figure is of another folder of pictures, such as ImageNette's."""
    name = published.settings.get("dataset.name")
    return name is not None and name != setup.setting("dataset.name")


def mismatches(setup: Setup, published: PublishedFigure, networks: Networks) -> list[str]:
    """Return what keeps the two from being compared: ``width 32, published 128``.

    Published networks are those of conf/network (``networks``) and their images all of the
    dataset's, in its size and channels, but for what the figure's settings say.
    """
    if setup.network not in published.networks:
        return [f"network {setup.network}, published {' or '.join(published.networks)}"]
    reasons = []
    usual = network_settings(setup.network, networks, published.dataset)
    settings = {**PIXELS, **usual, **published.settings}
    for path, expected in settings.items():
        value = network_setting(setup, path, networks)
        unknown = value is None and path not in published.settings  # of an older run
        if value != expected and not unknown:
            name = path.removeprefix("network.")
            reasons.append(f"{name} {format_value(value)}, published {format_value(expected)}")
    return reasons + image_mismatches(setup, published)


def network_settings(network: str, networks: Networks, dataset: str) -> dict[str, Any]:
    """Return the settings of conf/network that are given there, by their dotted names; those that
    follow the data are the field's for ``dataset``."""
    settings = networks.get(network.partition(" ")[0], {}).items()
    auto = {"depth": blocks(document()["images"][dataset]["size"]), "width": PUBLISHED_WIDTH}
    return {
        f"network.{name}": auto[name] if value == AUTO else value
        for name, value in settings
        if (name == "_target_" or not name.startswith("_"))
        and not (isinstance(value, str) and ("${" in value or value == "???"))
    }


def image_mismatches(setup: Setup, published: PublishedFigure) -> list[str]:
    """Return what differs in the images: ``size 14, published 28``."""
    original = document()["images"][published.dataset]
    reasons = [
        f"{name} {value}, published {original[name]}"
        for name in original
        if f"dataset.{name}" not in published.settings
        and (value := setup.setting(f"dataset.{name}")) not in (None, original[name])
    ]
    if (classes := setup.setting("dataset.classes")) is not None:
        reasons.append(f"{len(classes)} classes, published all")
    if (subset := setup.setting("dataset.subset")) is not None:
        reasons.append(f"{subset} images of a class, published all")
    return reasons


def network_setting(setup: Setup, path: str, networks: Networks) -> Any:
    """Return the setting ``path`` of ``setup``; for a network that the run's config does not
    describe, the one in conf/network."""
    group, _, name = path.partition(".")
    if group == "network" and not setup.own_network:
        value = networks.get(setup.network.partition(" ")[0], {}).get(name)
        return further_setting(setup, name) if value == AUTO else value
    return setup.setting(path)


def further_setting(setup: Setup, name: str) -> int | None:
    """Return the width or depth that followed the data of a run, in a network that its config does
    not describe; None where that is not known. Earlier runs had the same for all data."""
    if "recipe" not in setup.config:
        return {"depth": 3, "width": PUBLISHED_WIDTH}[name]
    if name == "width":
        return None if setup.config["recipe"] is None else PUBLISHED_WIDTH
    images = document()["images"].get(setup.dataset, {})
    size = setup.setting("dataset.size") or images.get("size")
    return None if size is None else blocks(size)


def format_value(value: Any) -> str:
    if value is None:
        return "null"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)
