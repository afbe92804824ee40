"""What papers publish (``published.yaml``), and how far one's own figure is from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ddist.compare.gather import Accuracy, Figure
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
def published_figures() -> tuple[Published, ...]:
    """All that ``published.yaml`` has."""
    text = Path(__file__).with_name("published.yaml").read_text()
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
        for entry in yaml.safe_load(text)
        for dataset, by_ipc in entry["figures"].items()
        for ipc, (mean, std) in by_ipc.items()
    )


def full_data(figure: Figure, usual_networks: Networks) -> Published | None:
    """The published accuracy of the figure's network trained on the whole dataset."""
    for each in published_figures():
        here = (each.ipc, each.dataset) == (0, figure.dataset)
        if here and not mismatches(figure, each, usual_networks):
            return each
    return None


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


def mismatches(figure: Figure, published: Published, usual: Networks) -> list[str]:
    """What keeps the two from being compared: ``width 32, published 128``."""
    if figure.network not in published.networks:
        return [f"network {figure.network}, published {' or '.join(published.networks)}"]
    wrong = []
    for path, wanted in published.settings.items():
        found = network_setting(figure, path, usual)
        if found != wanted:
            wrong.append(
                f"{path.removeprefix('network.')} {shown(found)}, published {shown(wanted)}"
            )
    return wrong


def network_setting(figure: Figure, path: str, usual: Networks) -> Any:
    """The figure's setting, of the network as conf/network has it where the run's config tells of
    another."""
    group, _, name = path.partition(".")
    if group == "network" and not figure.own_network:
        return usual.get(figure.network.partition(" ")[0], {}).get(name)
    return figure.setting(path)


def shown(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def check_limits(deviations: Any, points: Any) -> None:
    """Raise a DdistError unless both limits are numbers from 0."""
    for name, value in (("deviations", deviations), ("points", points)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not value >= 0:
            raise DdistError(f"task.{name} is a number from 0, not {value!r}.")
