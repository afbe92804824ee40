"""Accuracy against the number of images and against what it cost: a panel for each dataset and
protocol, whose figures nobody should read off one axis."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from math import ceil, floor, log10
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter

from ddist.compare.rows import ComparedRow
from ddist.report.lines import MARKERS

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c564b",
           "#7f7f7f", "#9467bd", "#bcbd22", "#2ca02c")  # fmt: skip
MIN_SECONDS = 1.0  # of choosing images without learning, on the logarithmic axis
MIN_RANGE = 4.0  # per cent that an axis shows: chance should not fill it
BESIDE = 1.04
COLUMNS = 3

Cost = Callable[[ComparedRow], float | None]
COSTS: dict[str, tuple[str, Cost]] = {
    "bytes": ("bytes of the distilled set", lambda row: row.num_bytes),
    "seconds": (
        "seconds of distilling",
        lambda row: None if row.seconds is None else max(row.seconds, MIN_SECONDS),
    ),
}
Plot = Callable[[Axes, list[ComparedRow]], None]
Panels = dict[tuple[str, str], list[ComparedRow]]  # dataset and protocol


def panels_of(
    tables: dict[str, list[ComparedRow]], known: Callable[[ComparedRow], object]
) -> Panels:
    """Return the rows of each panel of which ``known`` says something."""
    panels: Panels = defaultdict(list)
    for protocol, rows in tables.items():
        for row in rows:
            if known(row) is not None:
                panels[row.first.dataset, protocol].append(row)
    return dict(sorted(panels.items()))


def draw_plots(tables: dict[str, list[ComparedRow]], folder: Path) -> dict[str, Path]:
    """Draw accuracy against images per class (``ipc.png``), against the bytes of the set, labels
    included, and against seconds of distilling, as far as they are known; return the files by what
    is along their axis."""
    plots: dict[str, tuple[str, Cost, Plot]] = {
        "ipc": ("images per class", lambda row: row.first.ipc, by_ipc),
        **{n: (label, cost, partial(by_cost, cost=cost)) for n, (label, cost) in COSTS.items()},
    }
    files = {}
    for name, (label, known, plot) in plots.items():
        if panels := panels_of(tables, known):
            files[label] = folder / f"{name}.png"
            draw(panels, label, files[label], plot)
    return files


def draw(panels: Panels, label: str, file: Path, plot: Plot) -> None:
    columns = min(COLUMNS, len(panels))
    lines = ceil(len(panels) / columns)
    most_labels = max(len(by_method(rows)) for rows in panels.values())
    height = max(3.2, 0.17 * most_labels + 1.0)
    canvas = Canvas(figsize=(6.4 * columns, height * lines), layout="constrained")
    grid = canvas.subplots(lines, columns, squeeze=False).flatten()
    for axes, ((dataset, protocol), rows) in zip(grid, panels.items(), strict=False):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        plot(axes, rows)
        low, high = axes.get_ylim()
        missing = max(0, MIN_RANGE - (high - low)) / 2
        axes.set_ylim(low - missing, high + missing)
        axes.set_title(f"{dataset}, {protocol}", fontsize=10)
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1.02), frameon=False, fontsize=7)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    canvas.savefig(file, dpi=100)


def by_ipc(axes: Axes, rows: list[ComparedRow]) -> None:
    """Draw published figures that can be compared hollow, and random real images grey."""
    methods, ticks = by_method(rows), sorted({row.first.ipc for row in rows})
    # Before anything is drawn: matplotlib warns of the limits that it finds for a single tick.
    axes.set_xlim(ticks[0] / 2, ticks[-1] * 2)
    for number, (name, members) in enumerate(methods.items()):
        members = sorted(members, key=lambda row: row.first.ipc)
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        # Moved a little, so that methods do not hide each other.
        aside = BESIDE ** (number - (len(methods) - 1) / 2)
        x = [row.first.ipc * aside for row in members]
        unique = len(set(x)) == len(x)  # else several settings of one size: no line
        errorbar(axes, x, members, colour, marker, name, "-" if unique else "")
        for row in members:
            published = row.comparison.published
            if published is not None and row.comparison.difference is not None:
                axes.plot(row.first.ipc * aside, 100 * published.mean, marker=marker, color=colour,
                          fillstyle="none", markersize=9, linestyle="")  # fmt: skip
    for network in dict.fromkeys(row.network for row in rows):
        randoms = {r.first.ipc: r.random for r in rows if r.network == network and r.random}
        if randoms:
            x = sorted(randoms)
            y = [100 * randoms[ipc].mean for ipc in sorted(randoms)]
            axes.plot(x, y, color="0.6", linestyle="--", marker=".", label=f"real, {network}")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def by_cost(axes: Axes, rows: list[ComparedRow], cost: Cost) -> None:
    """Draw a colour for each method and network, a marker for each number of images."""
    costs = [cost(row) or 1 for row in rows]
    # Before anything is drawn: matplotlib warns of the limits that it finds for a single cost.
    axes.set_xlim(10 ** floor(log10(min(costs) / 1.2)), 10 ** ceil(log10(max(costs) * 1.2)))
    ipcs = sorted({row.first.ipc for row in rows})
    for number, (name, members) in enumerate(by_method(rows).items()):
        for ipc in sorted({row.first.ipc for row in members}):
            same_size = [row for row in members if row.first.ipc == ipc]
            label = name if len(ipcs) == 1 else f"{name}, ipc {ipc}"
            marker = MARKERS[ipcs.index(ipc) % len(MARKERS)]
            x = [cost(row) or 1 for row in same_size]
            errorbar(axes, x, same_size, COLOURS[number % len(COLOURS)], marker, label, "")


def errorbar(
    axes: Axes, x: list[float], rows: list[ComparedRow], colour: str, marker: str, label: str,
    line: str,
) -> None:  # fmt: skip
    y = [100 * row.accuracy.mean for row in rows]
    spread = [100 * (row.accuracy.std or 0) for row in rows]
    axes.errorbar(x, y, yerr=spread, fmt=marker, linestyle=line, capsize=3, markersize=5,
                  color=colour, label=label)  # fmt: skip


def by_method(rows: Iterable[ComparedRow]) -> dict[str, list[ComparedRow]]:
    """Return the rows by method and network."""
    methods: dict[str, list[ComparedRow]] = defaultdict(list)
    for row in rows:
        methods[f"{row.first.method}, {row.network}"].append(row)
    return dict(sorted(methods.items()))
