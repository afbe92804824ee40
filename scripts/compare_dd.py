"""What scripts/reproduce_dd.sh has left, beside the figures of Wang et al. 2018.

python scripts/compare_dd.py outputs/dd
"""

import argparse
import json
from pathlib import Path
from typing import Any

import rich
from rich.table import Table

from ddist.report.table import accuracy, accuracy_rows

# The run's folder and the row of its table -> the paper's figure, %.
# From the project's notes on the paper (reference/methods-bilevel.md), partly from memory.
PAPER: dict[str, dict[str, str]] = {
    "mnist_fixed_ipc1": {"distilled images": "93.8"},
    "mnist_random_ipc10": {"distilled images": "79.5 ± 8.1", "random real images": "68.6 ± 9.8"},
    "mnist_random": {"distilled images": "68.6 ± 9.8"},
    "mnist_optimized_random": {"distilled images": "73.0 ± 7.6"},
    "mnist_kmeans": {"distilled images": "76.4 ± 9.5"},
    "mnist_average": {"distilled images": "77.1 ± 2.7"},
    "mnist_knn_random": {"distilled images": "71.5 ± 2.1"},
    "mnist_knn_kmeans": {"distilled images": "92.2 ± 0.1"},
    "cifar10_fixed_ipc10": {"distilled images": "54.0"},
    "cifar10_fixed_ipc10_cpu": {"distilled images": "54.0"},
}
PAIRS = {
    "mnist_usps": {
        "dd": "95.4 ± 1.8", "fixed": "97.9", "random": "94.9 ± 0.8", "optimized": "95.2 ± 0.7",
        "kmeans": "92.2 ± 1.6", "average": "93.9 ± 0.8", "none": "90.4 ± 3.0",
    },
    "usps_mnist": {
        "dd": "92.7 ± 1.4", "fixed": "93.2", "random": "87.1 ± 2.9", "optimized": "87.6 ± 2.1",
        "kmeans": "85.6 ± 3.1", "average": "78.4 ± 5.0", "none": "67.5 ± 3.9",
    },
    "svhn_mnist": {
        "dd": "85.2 ± 4.7", "fixed": "96.6", "random": "84.6 ± 2.1", "optimized": "85.2 ± 1.2",
        "kmeans": "85.8 ± 1.2", "average": "74.9 ± 2.6", "none": "51.6 ± 2.8",
    },
}  # fmt: skip
for pair, known in PAIRS.items():
    PAPER[f"dd_{pair}_ipc10"] = {
        "distilled images": known["dd"],
        "random real images": known["random"],
        "no adaptation": known["none"],
    }
    PAPER[f"dd_{pair}_fixed_ipc10"] = {"distilled images": known["fixed"]}
    for method in ("optimized_random", "kmeans", "average"):
        figure = known[method.removesuffix("_random")]
        PAPER[f"{method}_{pair}_ipc10"] = {"distilled images": figure}
PAPER |= {
    "dd_voc_crops": {"distilled images": "70.75", "random real images": "19.41 ± 3.73"},
    "dd_cub200": {"distilled images": "38.76", "random real images": "7.11 ± 0.66"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the runs, such as outputs/dd")
    folder = parser.parse_args().folder
    found = {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/results.json")
    }
    if not found:
        raise SystemExit(f"No results.json below {folder}: run scripts/reproduce_dd.sh first.")
    rich.print(compare(found))


def compare(found: dict[str, dict[str, Any]]) -> Table:
    """A line for each row of each run."""
    table = Table("run", "trained on", "protocol", "ours, % (networks)", "the paper, %")
    order = [name for name in PAPER if name in found]
    for run in [*order, *sorted(found.keys() - order)]:
        results, shown = found[run], run
        table.add_section()
        for name, row in accuracy_rows(results):
            own = name == "distilled images" and results["method"] != "dd"
            title = f"{results['method']} images" if own else name
            if row["protocol"].startswith("published"):
                continue
            paper = PAPER.get(run, {}).get(name, "")
            table.add_row(shown, title, row["protocol"], accuracy(row), paper)
            shown = ""
            for step, share in poisoned(row):
                table.add_row("", f"  attacked class after {step} steps", "", share, "")
    return table


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
