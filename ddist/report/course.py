"""The measures of an objective over the student's steps: a table and a picture."""

from typing import Any

from rich.table import Table

from ddist.artifact.figures import NamedRow, accuracy_rows
from ddist.report.curve import figure_png

NAMES = {
    "attacked_accuracy": "attacked class",
    "attacked_as_target": "called the target",
    "others_accuracy": "other classes",
    "accuracy": "all",
    "accuracy_as_wanted": "all, as wanted",
}


def has_course(results: dict[str, Any]) -> bool:
    """Tell whether any row of results.json's dict was followed step by step."""
    return bool(_followed(results))


def course_table(results: dict[str, Any]) -> Table:
    """Return a line for each set and number of steps, and a column for each measure."""
    rows = _followed(results)
    names = _measures(rows)
    table = Table(title="Step by step, %", title_style="bold")
    table.add_column("trained on", min_width=9)
    table.add_column("steps", justify="right")
    for name in names:
        table.add_column(NAMES.get(name, name), justify="right")
    for title, row in rows:
        course, alone = row["course"], row["num_networks"] == 1
        table.add_section()
        for k, step in enumerate(course["steps"]):
            cells = [_cell(course, name, k, alone) for name in names]
            table.add_row(_title(title, row, rows) if k == 0 else "", str(step), *cells)
    return table


def course_picture(results: dict[str, Any]) -> bytes:
    """Draw a PNG with one panel for each measure and one line for each set: the mean over the
    networks and, shaded, its standard deviation."""
    from matplotlib.figure import Figure

    rows = _followed(results)
    names = _measures(rows)
    figure = Figure(figsize=(3 * len(names), 3), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        for title, row in rows:
            course = row["course"]
            mean, std = ([100 * v for v in course[f"{name}_{kind}"]] for kind in ("mean", "std"))
            label = _title(title, row, rows)
            (line,) = panel.plot(course["steps"], mean, marker="o", label=label)
            low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
            panel.fill_between(course["steps"], low, high, color=line.get_color(), alpha=0.15)
        panel.set(title=NAMES.get(name, name), xlabel="steps", ylim=(-2, 102))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("test images, %")
    panels[0].legend(fontsize="small")
    return figure_png(figure)


def _followed(results: dict[str, Any]) -> list[NamedRow]:
    return [(name, row) for name, row in accuracy_rows(results) if row.get("course")]


def _title(name: str, row: dict[str, Any], rows: list[NamedRow]) -> str:
    """Return what a set is called, with the network where there are several."""
    several = len({other["network"] for _, other in rows}) > 1
    return f"{name}, {row['network']}" if several else name


def _measures(rows: list[NamedRow]) -> list[str]:
    return [key.removesuffix("_mean") for key in rows[0][1]["course"] if key.endswith("_mean")]


def _cell(course: dict[str, list[float]], name: str, k: int, alone: bool) -> str:
    mean, std = (100 * course[f"{name}_{kind}"][k] for kind in ("mean", "std"))
    return f"{mean:.2f}" if alone else f"{mean:.2f} ± {std:.2f}"
