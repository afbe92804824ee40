"""The figures of a run (the dict of results.json) as rows, and as the table printed at the end."""

from collections.abc import Callable
from typing import Any

from rich.table import Table

from ddist.errors import DdistError

DISTILLED = "distilled images"
BASELINES = {
    "no_adaptation": "no adaptation",
    "random": "random real images",
    "raw": "the same, not averaged",
    "full": "all training images",
    "full_measured": "all training images, measured",
}
FIGURES = {
    "quantization_error": "latent W2²",
    "quantization_error_uniform": "latent W2², unweighted",
    "expert_accuracy_min": "worst expert's test accuracy",
    "expert_accuracy_mean": "mean expert's test accuracy",
    "expert_accuracy_max": "best expert's test accuracy",
}

Row = tuple[str, dict[str, Any]]  # name, {protocol, network, accuracy_mean, ...}


def results_table(results: dict[str, Any]) -> Table:
    """Accuracies, a pair of columns for each protocol (two protocols are never comparable), and
    below them what the run cost, and in the caption what training on all images gives.
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


def accuracy_rows(results: dict[str, Any]) -> list[Row]:
    """The distilled set's rows, below them the baselines'; network by network, where there are
    several. A baseline is called ``random``, or ``random:alexnet`` on a further network."""
    distilled: list[Row] = [(DISTILLED, row) for row in results["evaluation"]]
    if not distilled:
        raise DdistError("results.json holds no evaluation: run ddist task=evaluate first.")
    rows = list(distilled)
    for name, row in results.get("baselines", {}).items():
        kind = name.partition(":")[0]
        rows.append((BASELINES.get(kind, kind), row))
    networks = list(dict.fromkeys(row["network"] for _, row in rows))
    return sorted(rows, key=lambda each: networks.index(each[1]["network"]))


def compared_rows(results: dict[str, Any]) -> list[Row]:
    """The same without training on all images, whose protocol is its own."""
    full = [BASELINES["full"], BASELINES["full_measured"]]
    return [row for row in accuracy_rows(results) if row[0] not in full]


def on_all(results: dict[str, Any]) -> list[str]:
    """The figures of training on all images, measured or published, each under a protocol of its
    own: lines below the table and no column of it."""
    kinds, lines = ("full_measured", "full"), []
    known = [(name.partition(":")[0], row) for name, row in results.get("baselines", {}).items()]
    known = [(kind, row) for kind, row in known if kind in kinds]
    for _, row in sorted(known, key=lambda each: kinds.index(each[0])):
        published = row["protocol"].startswith("published")
        found = f"{100 * row['accuracy_mean']:.1f} %" if published else f"{accuracy(row)} %"
        lines.append(f"{BASELINES['full']}, {row['network']}: {found} ({row['protocol']})")
    return lines


def figure_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """What the method knows of its set besides accuracies."""
    return [(FIGURES.get(k, k), f"{v:.4g}") for k, v in results.get("figures", {}).items()]


def cost_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of time, memory and size, in readable units."""
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


def accuracy(row: dict[str, Any]) -> str:
    """``93.76 ± 0.40 (20)``: mean, standard deviation and number of networks, in per cent."""
    mean, networks = 100 * row["accuracy_mean"], row["num_networks"]
    if networks == 1 or row["accuracy_std"] is None:
        return f"{mean:.2f} ({networks})"
    return f"{mean:.2f} ± {100 * row['accuracy_std']:.2f} ({networks})"


def interval(row: dict[str, Any]) -> str:
    """Mean ± half-width ``accuracy_ci95`` as ``93.58 – 93.94``; empty where it is unknown."""
    if row["num_networks"] == 1 or row.get("accuracy_ci95") is None:
        return ""
    mean, half = row["accuracy_mean"], row["accuracy_ci95"]
    return f"{100 * max(0, mean - half):.2f} – {100 * min(1, mean + half):.2f}"


def duration(seconds: float) -> str:
    """``8.2 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float) -> str:
    """``313.6 kB``: decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.95 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
