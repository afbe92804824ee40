"""Accuracy over one setting of a sweep, from the results.json files of its jobs.

    ddist -m ... method.student_steps=1,2,5,10 seed=0,1,2 hydra.sweep.dir=outputs/steps
    python scripts/plot_sweep.py outputs/steps method.student_steps

draws outputs/steps/sweep.png and prints the table behind it: the mean over seeds of the mean over
networks, and its standard deviation over seeds. One line for each value of --by.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import rich
from rich.table import Table

Curves = dict[str, dict[float, list[float]]]
"""Line -> value of the setting -> accuracy of each run."""


def setting(results: dict[str, Any], path: str) -> Any:
    """The value at ``method.student_steps`` in the run's config."""
    value: Any = results["provenance"]["config"]
    for key in path.split("."):
        value = value[key]
    return value


def read(folder: Path, path: str, by: str | None) -> Curves:
    curves: Curves = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob("**/results.json")):
        results = json.loads(file.read_text())
        line = "" if by is None else f"{by.split('.')[-1]}={setting(results, by)}"
        x = float(setting(results, path))
        curves[line][x].append(100 * results["evaluation"][0]["accuracy_mean"])
    if not curves:
        raise SystemExit(f"No results.json below {folder}.")
    return curves


def spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def show(curves: Curves, path: str) -> None:
    table = Table("run", path, "accuracy % (mean over runs)", "std over runs", "runs")
    for line, points in curves.items():
        for x, values in sorted(points.items()):
            mean = f"{statistics.mean(values):.2f}"
            table.add_row(line, f"{x:g}", mean, f"{spread(values):.2f}", str(len(values)))
    rich.print(table)


def draw(curves: Curves, path: str, out: Path) -> None:
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for line, points in sorted(curves.items()):
        xs = sorted(points)
        means = [statistics.mean(points[x]) for x in xs]
        errors = [spread(points[x]) for x in xs]
        axes.errorbar(xs, means, yerr=errors, marker="o", capsize=3, label=line or None)
    axes.set(xlabel=path, ylabel="test accuracy, %")
    axes.set_xscale("log")
    axes.set_xticks(sorted({x for points in curves.values() for x in points}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend()
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the sweep's folder")
    parser.add_argument("setting", help="on the x axis, e.g. method.student_steps")
    parser.add_argument("--by", help="one line per value of this setting")
    arguments = parser.parse_args()
    curves = read(arguments.folder, arguments.setting, arguments.by)
    show(curves, arguments.setting)
    out = arguments.folder / "sweep.png"
    draw(curves, arguments.setting, out)
    print(f"The plot: {out}")


if __name__ == "__main__":
    main()
