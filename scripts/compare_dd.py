"""What scripts/reproduce_dd.sh has left, beside the figures of Wang et al. 2018.

python scripts/compare_dd.py outputs/dd

Marks are those of task=compare: * from a later paper, ? from memory and not checked.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import rich
from rich.table import Table

from ddist.artifact.figures import accuracy, accuracy_rows
from ddist.compare.gather import read
from ddist.compare.published import compare
from ddist.compare.tables import published_percent
from ddist.tasks.usual import usual_networks, usual_protocols

# The rows beside the distilled images, and whose published figures they are.
BASELINES = {"random real images": "random", "no adaptation": "no_adaptation"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the runs, such as outputs/dd")
    folder = parser.parse_args().folder
    files = sorted(folder.glob("*/results.json"))
    if not files:
        raise SystemExit(f"No results.json below {folder}: run scripts/reproduce_dd.sh first.")
    rich.print(table(files))


def table(files: list[Path]) -> Table:
    """A line for each row of each run."""
    lines = Table("run", "trained on", "protocol", "ours, % (networks)", "the paper, %")
    protocols, networks = usual_protocols(), usual_networks()
    for file in files:
        results, shown = json.loads(file.read_text()), file.parent.name
        figures = {(each.network, each.protocol): each for each in read(file, protocols)}
        lines.add_section()
        for name, row in accuracy_rows(results):
            if row["protocol"].startswith("published"):
                continue
            own = name == "distilled images"
            title = f"{results['method']} images" if own and results["method"] != "dd" else name
            figure = figures.get((row["network"], row["protocol"]))
            method = results["method"] if own else BASELINES.get(name)
            paper = ""
            if figure is not None and method is not None:
                other = replace(figure, method=method)
                found = compare(other, figure.accuracy, networks, 2, 2)
                paper = "" if found.difference is None else published_percent(found.published)
            lines.add_row(shown, title, row["protocol"], accuracy(row), paper)
            shown = ""
            for step, share in poisoned(row):
                lines.add_row("", f"  attacked class after {step} steps", "", share, "")
    return lines


def poisoned(row: dict[str, Any]) -> list[tuple[int, str]]:
    """The attacked class's accuracy at the start and at the end."""
    course = row.get("course", {})
    shares = course.get("attacked_accuracy_mean", [])
    pairs = list(zip(course.get("steps", []), shares, strict=True))
    return [
        (step, f"{100 * share:.2f}") for step, share in (pairs[:1] + pairs[-1:] if pairs else [])
    ]


if __name__ == "__main__":
    main()
