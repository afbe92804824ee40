"""The accuracies of a run (the dict of results.json) as rows and words."""

from typing import Any

from ddist.errors import DdistError

DISTILLED = "distilled images"
BASELINES = {
    "no_adaptation": "no adaptation",
    "random": "random real images",
    "average": "class averages",
    "kmeans": "k-means centroids",
    "coreset": "chosen real images",
    "nearest": "real images nearest to the class mean",
    "herding": "real images chosen by herding",
    "kmeans_embedding": "real images nearest to k-means",
    "raw": "the same, not averaged",
    "full_probe": "a probe on all training images",
    "full": "all training images",
    "full_measured": "all training images, measured",
}
NamedRow = tuple[str, dict[str, Any]]  # name, {protocol, network, accuracy_mean, ...}


def accuracy_rows(results: dict[str, Any]) -> list[NamedRow]:
    """Return the distilled set's rows, below them the baselines'; network by network, where there
    are several. A baseline is called ``random``, or ``random:alexnet`` on a further network."""
    distilled: list[NamedRow] = [(DISTILLED, row) for row in results["evaluation"]]
    if not distilled:
        raise DdistError("results.json holds no evaluation: run ddist task=evaluate first.")
    rows = list(distilled)
    for name, row in results.get("baselines", {}).items():
        baseline = name.partition(":")[0]
        rows.append((BASELINES.get(baseline, baseline), row))
    networks = list(dict.fromkeys(row["network"] for _, row in rows))
    return sorted(rows, key=lambda row: networks.index(row[1]["network"]))


def compared_rows(results: dict[str, Any]) -> list[NamedRow]:
    """Return the rows but for those of training on all images, whose protocol is its own."""
    full = [BASELINES["full"], BASELINES["full_measured"]]
    return [row for row in accuracy_rows(results) if row[0] not in full]


def on_all(results: dict[str, Any]) -> list[str]:
    """Return the figures of training on all images, measured or published, each under a protocol of
    its own: lines below the table and no column of it."""
    lines = []
    for baseline in ("full_measured", "full"):
        for name, row in results.get("baselines", {}).items():
            if name.partition(":")[0] == baseline:
                published = row["protocol"].startswith("published")
                figure = f"{100 * row['accuracy_mean']:.1f}" if published else accuracy(row)
                line = f"{BASELINES['full']}, {row['network']}: {figure} % ({row['protocol']})"
                lines.append(line)
    return lines


def accuracy(row: dict[str, Any]) -> str:
    """Return ``93.76 ± 0.40 (20)``: mean, standard deviation and number of networks, in per
    cent."""
    mean, networks = 100 * row["accuracy_mean"], row["num_networks"]
    if networks == 1 or row["accuracy_std"] is None:
        return f"{mean:.2f} ({networks})"
    return f"{mean:.2f} ± {100 * row['accuracy_std']:.2f} ({networks})"


def interval(row: dict[str, Any]) -> str:
    """Return mean ± half-width ``accuracy_ci95`` as ``93.58 – 93.94``; empty where it is
    unknown."""
    if row["num_networks"] == 1 or row.get("accuracy_ci95") is None:
        return ""
    mean, half = row["accuracy_mean"], row["accuracy_ci95"]
    return f"{100 * max(0, mean - half):.2f} – {100 * min(1, mean + half):.2f}"
