"""Figures as the rows of tables: seeds together, protocols apart."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ddist.compare.gather import Accuracy, Figure
from ddist.compare.published import (
    Comparison,
    Networks,
    compare,
    format_value,
    network_setting,
)
from ddist.compare.settings import settings_of

MAX_DIFFERENCES = 3  # settings that tell two rows apart


@dataclass(frozen=True)
class SeedGroup:
    """Runs of the same settings, one figure for each seed."""

    figures: list[Figure]

    @property
    def first(self) -> Figure:
        return self.figures[0]

    @property
    def accuracy(self) -> Accuracy:
        return over_seeds([figure.accuracy for figure in self.figures])

    @property
    def random(self) -> Accuracy | None:
        randoms = [figure.random for figure in self.figures if figure.random is not None]
        return over_seeds(randoms) if randoms else None

    @property
    def seconds(self) -> float | None:
        """Return the mean seconds of distilling."""
        known = [figure.seconds for figure in self.figures if figure.seconds is not None]
        return statistics.mean(known) if known else None

    @property
    def memory(self) -> int | None:
        """Return the most bytes that distilling took."""
        return max((f.memory for f in self.figures if f.memory is not None), default=None)

    @property
    def num_bytes(self) -> int | None:
        """Return the bytes of the largest set."""
        return max((f.num_bytes for f in self.figures if f.num_bytes is not None), default=None)


@dataclass(frozen=True)
class ComparedRow(SeedGroup):
    """Runs of the same settings beside what is published of them."""

    comparison: Comparison
    network: str  # its name, and its width where it has one
    differences: str  # the settings by which it differs from others of its method and size


def over_seeds(accuracies: list[Accuracy]) -> Accuracy:
    """Return mean and standard deviation over seeds of each seed's mean over networks; of a single
    seed, its own over networks."""
    if len(accuracies) == 1:
        return accuracies[0]
    means = [accuracy.mean for accuracy in accuracies]
    num_networks = sum(accuracy.num_networks for accuracy in accuracies)
    return Accuracy(statistics.mean(means), statistics.stdev(means), num_networks)


def make_rows(
    figures: Iterable[Figure], networks: Networks, deviations: float, points: float
) -> dict[str, list[ComparedRow]]:
    """Return the rows of each protocol, by dataset, images per class, and accuracy; see
    :func:`ddist.compare.published.compare` for the other arguments."""
    groups: dict[tuple[Any, ...], dict[str, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for figure in sorted(figures, key=lambda figure: figure.seed):
        place = figure.protocol, figure.dataset, figure.ipc, figure.method, figure.network
        groups[place][figure.settings].append(figure)
    tables: dict[str, list[ComparedRow]] = defaultdict(list)
    for (protocol, *_), seeds_by_settings in groups.items():
        alike = list(seeds_by_settings.values())
        texts = differences([seeds[0] for seeds in alike])
        for seeds, text in zip(alike, texts, strict=True):
            accuracy = SeedGroup(seeds).accuracy
            comparison = compare(seeds[0], accuracy, networks, deviations, points)
            network = network_label(seeds[0], networks)
            tables[protocol].append(ComparedRow(seeds, comparison, network, text))
    for rows in tables.values():
        rows.sort(key=lambda row: (row.first.dataset, row.first.ipc, -row.accuracy.mean))
    return dict(sorted(tables.items()))


def network_label(figure: Figure, networks: Networks) -> str:
    """Return ``convnet 128``, or ``mlp``, which has no single width."""
    width = network_setting(figure, "network.width", networks)
    no_width = width is None or figure.setting("evaluation.epochs") is None
    return figure.network if no_width else f"{figure.network} {format_value(width)}"


def differences(figures: list[Figure]) -> list[str]:
    """Return for each figure the settings in which they differ, such as ``steps=200, lr.images=1``:
    short ones first, three at most."""
    if len(figures) == 1:
        return [""]
    settings = [flat_settings(figure) for figure in figures]
    names = [
        name
        for name in set.intersection(*map(set, settings))  # older runs have fewer
        if all(values[name] is not None for values in settings)
        and len({str(values[name]) for values in settings}) > 1
    ]
    names.sort(key=lambda name: (
        max(len(format_value(values[name])) for values in settings) > 20, name.count("."), name
    ))  # fmt: skip
    more = ", …" if len(names) > MAX_DIFFERENCES else ""
    return [
        ", ".join(
            # which group it is of, the table need not say
            f"{name.partition('.')[2] or name}={format_value(values[name])}"
            for name in names[:MAX_DIFFERENCES]
        )
        + more
        for values in settings
    ]


def flat_settings(figure: Figure) -> dict[str, Any]:
    """Return the settings that the figure's set was learned with, by dotted names; without what
    only says how, and without copies. A part that is an object (``method.generative``) has its
    class; images are named by what they are stored as, and how many are in the bytes of one."""
    flat = {}
    for name, value in dotted(settings_of(figure.config)):
        owner, _, private = name.rpartition("._")
        if name.startswith(("trainer.", "method.trajectories.", "method.augment.")):
            continue
        if not owner:
            flat[name] = value
        elif private == "target_":
            flat[owner] = str(value).rpartition(".")[2]
    kind = flat.pop("synthetic.code", flat.get("synthetic"))
    factor, copies = (flat.pop(f"synthetic.{name}", None) or 1 for name in ("factor", "copies"))
    views = 2 if flat.pop("synthetic.mirror", False) else 1
    if kind is not None:
        flat["synthetic"] = f"{kind} x{views * copies * factor**2}"
    return flat


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the values of a nested mapping with their dotted names."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
