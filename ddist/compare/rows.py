"""Figures as the rows of tables: seeds together, protocols apart."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ddist.compare.gather import Accuracy, Figure
from ddist.compare.published import Comparison, Networks, compare, network_setting, shown
from ddist.compare.settings import settings_of

MAX_TOLD = 3  # settings that tell two rows apart


@dataclass(frozen=True)
class Row:
    """The runs of the same settings."""

    figures: list[Figure]  # one for each seed
    accuracy: Accuracy  # over seeds where there are several, else over networks
    random: Accuracy | None
    seconds: float | None  # of distilling, on average
    memory: int | None  # bytes
    num_bytes: int | None
    comparison: Comparison
    network: str  # its name, and its width where it has one
    told: str  # the settings by which it differs from others of its kind

    @property
    def first(self) -> Figure:
        return self.figures[0]


def make_rows(
    figures: Iterable[Figure],
    usual_networks: Networks,
    deviations: float,
    points: float,
) -> dict[str, list[Row]]:
    """The rows of each protocol, by dataset, images per class, and accuracy; see
    :func:`ddist.compare.published.compare` for the other arguments."""
    groups: dict[tuple[Any, ...], list[Figure]] = defaultdict(list)
    for each in figures:
        key = (each.protocol, each.dataset, each.ipc, each.method, each.network, each.settings)
        groups[key].append(each)
    told = tell_apart([members[0] for members in groups.values()])
    tables: dict[str, list[Row]] = defaultdict(list)
    for members in groups.values():
        accuracy = over_seeds([each.accuracy for each in members])
        randoms = [each.random for each in members if each.random is not None]
        row = Row(
            sorted(members, key=lambda each: each.seed),
            accuracy,
            over_seeds(randoms) if randoms else None,
            mean_of(each.seconds for each in members),
            maximum(each.memory for each in members),
            maximum(each.num_bytes for each in members),
            compare(members[0], accuracy, usual_networks, deviations, points),
            named(members[0], usual_networks),
            told[id(members[0])],
        )
        tables[members[0].protocol].append(row)
    order = {name: sorted(rows, key=place) for name, rows in sorted(tables.items())}
    return order


def named(figure: Figure, usual_networks: Networks) -> str:
    """``convnet 128``, or ``mlp``, which has no single width."""
    width = network_setting(figure, "network.width", usual_networks)
    none = width is None or figure.setting("evaluation.epochs") is None
    return figure.network if none else f"{figure.network} {shown(width)}"


def place(row: Row) -> tuple[str, int, float]:
    return row.first.dataset, row.first.ipc, -row.accuracy.mean


def over_seeds(found: list[Accuracy]) -> Accuracy:
    """Mean and standard deviation over seeds of each seed's mean over networks; of a single seed,
    its own over networks."""
    if len(found) == 1:
        return found[0]
    means = [each.mean for each in found]
    networks = sum(each.num_networks for each in found)
    return Accuracy(statistics.mean(means), statistics.stdev(means), networks)


def mean_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def maximum(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def tell_apart(figures: list[Figure]) -> dict[int, str]:
    """For each figure (by ``id``) the settings in which those of the same method, dataset, size,
    network and protocol differ: ``steps=200, lr.images=1``. Short ones first, three at most."""
    kinds: dict[tuple[Any, ...], list[Figure]] = defaultdict(list)
    for each in figures:
        kinds[each.protocol, each.dataset, each.ipc, each.method, each.network].append(each)
    told = {id(each): "" for each in figures}
    for members in kinds.values():
        if len(members) == 1:
            continue
        flat = [flat_settings(each) for each in members]
        common = set.intersection(*(set(each) for each in flat))  # older runs have fewer
        common = {name for name in common if all(each[name] is not None for each in flat)}
        names = [name for name in common if len({str(each[name]) for each in flat}) > 1]
        names.sort(key=lambda name: (max(len(shown(each[name])) for each in flat) > 20,
                                     name.count("."), name))  # fmt: skip
        for each, values in zip(members, flat, strict=True):
            text = [f"{brief(name)}={shown(values[name])}" for name in names[:MAX_TOLD]]
            told[id(each)] = ", ".join(text) + (", …" if len(names) > MAX_TOLD else "")
    return told


def brief(name: str) -> str:
    """``lr.images`` of ``method.lr.images``: which group it is of, the table need not say."""
    return name.partition(".")[2] or name


def flat_settings(figure: Figure) -> dict[str, Any]:
    """What the figure's set was learned with, by dotted names; without what only says how, and
    without copies. A part that is one of several kinds (``method.generative``) has its class."""
    found = {}
    for name, value in flatten(settings_of(figure.config)):
        part, _, kind = name.rpartition("._")
        if name.startswith(("trainer.", "method.trajectories.", "method.augment.")):
            continue
        if not part:
            found[name] = value
        elif kind == "target_":
            found[part] = str(value).rpartition(".")[2]
    return found


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
