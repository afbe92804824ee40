"""What papers publish (``published.yaml``), and how far one's own figure is from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ddist.compare.gather import Accuracy, Figure
from ddist.compare.settings import Setup
from ddist.errors import DdistError

Networks = Mapping[str, Mapping[str, Any]]
"""The settings of conf/network, by name."""

KNOWN = {
    "seen": "in the paper, its code or its README",
    "comparison": "in a later paper's table or in a picture of a table",
    "memory": "from memory, not checked",
}


@dataclass(frozen=True)
class Published:
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

    published: Published | None
    difference: float | None  # ours - published, fractions; None where they are not comparable
    limit: float | None  # beyond which it is flagged
    note: str  # why there is no difference; may be empty

    @property
    def flagged(self) -> bool:
        """Whether the figures differ by more than chance explains."""
        return self.limit is not None and abs(self.difference or 0) > self.limit


@cache
def document() -> Any:
    """What ``published.yaml`` holds."""
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())


@cache
def published_figures() -> tuple[Published, ...]:
    """All figures of ``published.yaml``."""
    return tuple(
        Published(
            method=entry["method"],
            dataset=dataset,
            ipc=ipc,
            protocol=entry["protocol"],
            networks=tuple(
                [entry["network"]] if isinstance(entry["network"], str) else entry["network"]
            ),
            settings=entry.get("settings", {}),
            mean=mean / 100,
            std=None if std is None else std / 100,
            paper=entry["paper"],
            arxiv=entry["arxiv"],
            known=entry["known"],
            note=entry.get("note"),
        )
        for entry in document()["figures"]
        for dataset, by_ipc in entry["figures"].items()
        for ipc, (mean, std) in by_ipc.items()
    )


def full_data(setup: Setup, usual_networks: Networks) -> Published | None:
    """The published accuracy of the network of ``setup`` trained on the whole dataset."""
    if setup.objective:
        return None
    for each in published_figures():
        here = (each.method, each.dataset) == ("full", setup.dataset)
        if here and not mismatches(setup, each, usual_networks):
            return each
    return None


def cited(published: Published) -> str:
    """The paper, and how its figure is known where it was not seen there."""
    return published.paper + ("" if published.known == "seen" else f", {KNOWN[published.known]}")


def compare(
    figure: Figure,
    accuracy: Accuracy,
    usual_networks: Networks,
    deviations: float,
    points: float,
) -> Comparison:
    """``accuracy``, which ``figure`` and other seeds of the same settings have on average, beside
    what is published of the method on the dataset with as many images.

    They are comparable under the same protocol, with the same network and the same settings (such
    as its width); else the note says what is different. The difference is flagged beyond
    ``deviations`` joint standard deviations sqrt(s_ours^2 + s_published^2); beyond ``points`` per
    cent where neither has one. ``usual_networks`` are the settings of conf/network by name, of
    networks that the run's config does not describe.
    """
    if figure.objective:
        return Comparison(None, None, None, "")  # papers have no figure of the kind
    cell = (figure.method, figure.dataset, figure.ipc)
    known = [each for each in published_figures() if (each.method, each.dataset, each.ipc) == cell]
    here = [each for each in known if each.protocol == figure.protocol]
    if not here:
        return Comparison(None, None, None, elsewhere(known))
    reasons = [mismatches(figure, each, usual_networks) for each in here]
    nearest = min(range(len(here)), key=lambda index: len(reasons[index]))
    best = here[nearest]
    if reasons[nearest]:
        return Comparison(best, None, None, f"not compared: {'; '.join(reasons[nearest])}")
    joint = math.hypot(accuracy.std or 0, best.std or 0)
    limit = deviations * joint if joint else points / 100
    return Comparison(best, accuracy.mean - best.mean, limit, "")


def elsewhere(known: list[Published]) -> str:
    protocols = dict.fromkeys(each.protocol for each in known)
    return f"published only under {' and '.join(protocols)}" if protocols else ""


def mismatches(setup: Setup, published: Published, usual: Networks) -> list[str]:
    """What keeps the two from being compared: ``width 32, published 128``.

    Published networks are those of conf/network (``usual``) and their images all of the dataset's,
    in its size and channels, but for what the figure's settings say.
    """
    if setup.network not in published.networks:
        return [f"network {setup.network}, published {' or '.join(published.networks)}"]
    wrong = []
    wanted_of = {**network_settings(setup.network, usual), **published.settings}
    for path, wanted in wanted_of.items():
        found = network_setting(setup, path, usual)
        untold = found is None and path not in published.settings  # by an older run
        if found != wanted and not untold:
            wrong.append(
                f"{path.removeprefix('network.')} {shown(found)}, published {shown(wanted)}"
            )
    return wrong + other_images(setup, published)


def network_settings(network: str, usual: Networks) -> dict[str, Any]:
    """The settings of conf/network that are given there, by their dotted names."""
    settings = usual.get(network.partition(" ")[0], {}).items()
    return {
        f"network.{name}": value
        for name, value in settings
        if (name == "_target_" or not name.startswith("_"))
        and not (isinstance(value, str) and ("${" in value or value == "???"))
    }


def other_images(setup: Setup, published: Published) -> list[str]:
    """What differs in the images: ``size 14, published 28``."""
    own = document()["images"][published.dataset]
    wrong = [
        f"{name} {found}, published {own[name]}"
        for name in own
        if f"dataset.{name}" not in published.settings
        and (found := setup.setting(f"dataset.{name}")) not in (None, own[name])
    ]
    classes = setup.setting("dataset.classes")
    if classes is not None:
        wrong.append(f"{len(classes)} classes, published all")
    subset = setup.setting("dataset.subset")
    return wrong if subset is None else [*wrong, f"{subset} images of a class, published all"]


def network_setting(setup: Setup, path: str, usual: Networks) -> Any:
    """The setting of ``setup``, of the network as conf/network has it where the run's config tells
    of another."""
    group, _, name = path.partition(".")
    if group == "network" and not setup.own_network:
        return usual.get(setup.network.partition(" ")[0], {}).get(name)
    return setup.setting(path)


def shown(value: Any) -> str:
    if value is None:
        return "null"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def check_limits(deviations: Any, points: Any) -> None:
    """Raise a DdistError unless both limits are numbers from 0."""
    for name, value in (("deviations", deviations), ("points", points)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not value >= 0:
            raise DdistError(f"task.{name} is a number from 0, not {value!r}.")
