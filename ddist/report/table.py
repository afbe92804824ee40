"""The figures of a run (the dict of results.json) as rows, and as the table printed at the end."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.table import Table

from ddist.artifact.figures import DISTILLED, NamedRow, accuracy, compared_rows, interval, on_all
from ddist.formatting import duration, size

FIGURES = {
    "quantization_error": "latent W2²",
    "quantization_error_uniform": "latent W2², unweighted",
    "expert_accuracy_min": "worst expert's test accuracy",
    "expert_accuracy_mean": "mean expert's test accuracy",
    "expert_accuracy_max": "best expert's test accuracy",
}


def results_table(results: dict[str, Any]) -> Table:
    """Return accuracies, a pair of columns for each protocol (two protocols are never comparable),
    and below them what the run cost, and in the caption what training on all images gives.
    ``results`` is results.json's dict, accuracies being fractions."""
    rows = compared_rows(results)
    protocols = list(dict.fromkeys(row["protocol"] for _, row in rows))
    title = f"{results['method']} · {results['dataset']} · {results['ipc']} per class"
    caption = "\n".join(on_all(results)) or None
    table = Table(title=title, title_style="bold", caption=caption, caption_justify="left")
    table.add_column("trained on")
    table.add_column("network")
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = []
    for protocol in protocols:
        columns.append((protocol, accuracy))
        table.add_column(f"{protocol}:\naccuracy % (networks)", justify="right")
        for attack in attacks_in(rows, protocol):
            columns.append((protocol, partial(under, attack=attack)))
            title = "on the same,\nclean %" if attack == "clean" else f"under\n{attack} %"
            table.add_column(title, justify="right")
        if any(interval(row) for _, row in rows if row["protocol"] == protocol):
            columns.append((protocol, interval))
            table.add_column("95 % interval", justify="right")
    for i, (name, row) in enumerate(rows):
        if i and row["network"] != rows[i - 1][1]["network"]:
            table.add_section()
        cells = [show(row) if row["protocol"] == protocol else "" for protocol, show in columns]
        style = "bold" if name == DISTILLED else None
        table.add_row(name, row["network"], *cells, style=style)
    table.add_section()
    for name, value in [*figure_rows(results), *cost_rows(results)]:
        table.add_row(name, "", value, *[""] * (len(columns) - 1), style="dim")
    return table


def attacks_in(rows: list[NamedRow], protocol: str) -> list[str]:
    """Return the attacks that any of ``rows`` was tested under, ``clean`` first."""
    tested = (row.get("robust", {}) for _, row in rows if row["protocol"] == protocol)
    return list(dict.fromkeys(attack for measured in tested for attack in measured))


def under(row: dict[str, Any], attack: str) -> str:
    """Return the mean accuracy of a row under ``attack``, in per cent; empty where unknown."""
    accuracy = row.get("robust", {}).get(attack)
    return "" if accuracy is None else f"{100 * accuracy:.2f}"


def figure_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the method knows of its set besides accuracies."""
    return [(FIGURES.get(k, k), f"{v:.4g}") for k, v in results.get("figures", {}).items()]


def cost_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of time, memory and size, in readable units."""
    formats = {
        "distill_seconds": ("distilling", duration),
        "evaluate_seconds": ("evaluating", duration),
        "steps_per_second": ("outer steps", lambda value: f"{value:.3g} / s"),
        "peak_memory_bytes": ("peak memory", size),
        "artifact_bytes": ("distilled data", size),
    }
    cost = results.get("cost", {})
    known = {key: cost[key] for key in formats if cost.get(key) is not None}
    return [(formats[key][0], formats[key][1](value)) for key, value in known.items()]
