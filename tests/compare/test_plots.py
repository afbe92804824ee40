"""What the plots of task=compare draw: the data in matplotlib's axes against the rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Canvas

import ddist.compare.plots
from ddist.compare.gather import gather
from ddist.compare.plots import BESIDE, MIN_SECONDS, draw_plots
from ddist.compare.rows import ComparedRow, make_rows

pytestmark = pytest.mark.slow  # each composes, builds or trains

NETWORKS = {"convnet": {"width": 128, "depth": 3}}
Tables = dict[str, list[ComparedRow]]


@pytest.fixture
def tables(write: Callable[..., Path], tmp_path: Path) -> Tables:
    """Two methods at 1 and 10 images per class, one of them of two seeds; a second protocol."""
    bytes_of = {1: 31_400, 10: 314_000}
    for method, seconds, low in (("dm", 100.0, 0.80), ("dsa", 0.0, 0.70)):
        for ipc in (1, 10):
            for seed in (0, 1) if method == "dm" else (0,):
                write(f"{method}_{ipc}_{seed}", {
                    "method": method, "ipc": ipc, "provenance.config.ipc": ipc,
                    "cost.distill_seconds": seconds * ipc + 10 * seed,
                    "cost.artifact_bytes": bytes_of[ipc],
                    "baselines.random.accuracy_mean": 0.5 + ipc / 100,
                }, accuracy=low + ipc / 100 + seed / 50, seed=seed)  # fmt: skip
    write("other", {"method": "dm"}, accuracy=0.4, protocol="dc2021")
    return make_rows(gather([str(tmp_path / "runs")], {}).figures, NETWORKS, 2.0, 2.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Axes]]:
    """``drawn(name, tables)``: the axes of the picture of that name, by title."""

    def run(name: str, tables: Tables) -> dict[str, Axes]:
        kept: dict[str, Canvas] = {}

        class Kept(Canvas):
            def savefig(self, file: Path, *args: Any, **options: Any) -> None:
                kept[file.stem] = self
                super().savefig(file, *args, **options)

        monkeypatch.setattr(ddist.compare.plots, "Canvas", Kept)
        draw_plots(tables, tmp_path)
        assert kept.keys() == {"ipc", "bytes", "seconds"}
        assert all((tmp_path / f"{file}.png").stat().st_size > 0 for file in kept)
        canvas = kept[name]
        return {axes.get_title(): axes for axes in canvas.axes if axes.get_title()}

    return run


def bars(axes: Axes) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Of each label: x, y, and how far its bars reach up and down."""
    found = {}
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, (spread,) = container.lines
        assert line is not None
        ends = [segment[:, 1] for segment in spread.get_segments()]
        reach = [(high - low) / 2 for low, high in ends]
        middle = [(high + low) / 2 for low, high in ends]
        x, y = (np.asarray(each, float).tolist() for each in line.get_data())
        assert middle == pytest.approx(y)
        found[str(container.get_label())] = x, y, reach
    return found


def rows_by(tables: Tables, protocol: str, method: str) -> list[ComparedRow]:
    found = [row for row in tables[protocol] if row.first.method == method]
    return sorted(found, key=lambda row: row.first.ipc)


def expected(rows: list[ComparedRow]) -> tuple[list[float], list[float]]:
    return ([100 * row.accuracy.mean for row in rows],
            [100 * (row.accuracy.std or 0) for row in rows])  # fmt: skip


def test_accuracy_against_images_per_class(tables: Tables, drawn: Any) -> None:
    panels = drawn("ipc", tables)
    assert panels.keys() == {"mnist, dc2021", "mnist, dc2021_dsa"}
    axes = panels["mnist, dc2021_dsa"]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "images per class"
    found = bars(axes)
    assert {label.split(",")[0] for label in found} == {"dm", "dsa"}
    for number, (label, (x, y, reach)) in enumerate(sorted(found.items())):
        rows = rows_by(tables, "dc2021_dsa", label.split(",")[0])
        aside = BESIDE ** (number - 0.5)
        assert x == pytest.approx([aside, 10 * aside])
        means, spreads = expected(rows)
        assert y == pytest.approx(means) and reach == pytest.approx(spreads)
    dm = next(y for label, (_, y, _) in found.items() if label.startswith("dm,"))
    assert dm == pytest.approx([82, 91])  # the mean of two seeds
    (real,) = (line for line in axes.get_lines() if str(line.get_label()).startswith("real, "))
    assert np.asarray(real.get_xdata()).tolist() == [1, 10]
    assert np.asarray(real.get_ydata()).tolist() == pytest.approx([51, 60])
    assert list(axes.get_xticks()) == [1, 10]


def test_published_figures_are_hollow(tables: Tables, drawn: Any) -> None:
    """Of DM and DSA on MNIST, where the runs have the settings of the papers' tables; at the
    method's own place and colour."""
    published = {
        (row.first.method, row.first.ipc): row.comparison.published.mean
        for row in tables["dc2021_dsa"]
        if row.comparison.published is not None and row.comparison.difference is not None
    }
    assert published
    axes = drawn("ipc", tables)["mnist, dc2021_dsa"]
    hollow = [line for line in axes.get_lines() if line.get_fillstyle() == "none"]
    places = sorted(tuple(round(float(np.asarray(each)[0]), 1) for each in line.get_data())
                    for line in hollow)  # fmt: skip
    aside = {"dm": BESIDE**-0.5, "dsa": BESIDE**0.5}
    assert places == sorted(
        (round(ipc * aside[method], 1), round(100 * mean, 1))
        for (method, ipc), mean in published.items()
    )


@pytest.mark.parametrize("what", ["seconds", "bytes"])
def test_accuracy_against_what_it_cost(tables: Tables, drawn: Any, what: str) -> None:
    axes = drawn(what, tables)["mnist, dc2021_dsa"]
    assert axes.get_xlabel().startswith(what) and axes.get_xscale() == "log"
    found = bars(axes)
    assert len(found) == 4  # two methods, two sizes
    low, high = axes.get_xlim()
    for label, (x, y, reach) in found.items():
        method, ipc = label.split(",")[0], int(label.rpartition("ipc ")[2])
        (row,) = (r for r in rows_by(tables, "dc2021_dsa", method) if r.first.ipc == ipc)
        means, spreads = expected([row])
        assert y == pytest.approx(means) and reach == pytest.approx(spreads)
        seconds = max(MIN_SECONDS, 100 * ipc + 5 if method == "dm" else 0)  # of seeds 0 and 1
        assert x == [pytest.approx(seconds if what == "seconds" else 31_400 * ipc)]
        assert low < x[0] < high
