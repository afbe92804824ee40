"""The rows of each protocol as tables, the robust scores, and the legend below them."""

from ddist.compare.gather import Accuracy
from ddist.compare.published import KNOWN, PublishedFigure
from ddist.compare.robust import Scores
from ddist.compare.rows import ComparedRow, SeedGroup
from ddist.compare.sheet import Sheet, comma_separated, make_sheet
from ddist.formatting import duration, size

FLAG = "!"
MARKS = {"seen": "", "comparison": " *", "memory": " ?"}


def protocol_sheet(protocol: str, rows: list[ComparedRow]) -> Sheet:
    """Return the rows of one protocol as text."""
    cells = [
        {
            "dataset": row.first.dataset,
            "ipc": str(row.first.ipc),
            "method": row.first.method,
            "network": row.network,
            "accuracy % (networks)": with_count(row),
            "random %": percent(row.random),
            "published %": published_percent(row.comparison.published),
            "difference": difference(row),
            "distilling": "" if not row.seconds else duration(row.seconds),
            "size": "" if row.num_bytes is None else size(row.num_bytes),
            "settings": row.differences,
            "note": row.comparison.note,
        }
        for row in rows
    ]
    return make_sheet(protocol, cells)


def scores_sheet(scores: list[Scores]) -> Sheet:
    """Return the robust scores, in [0, 1], beside those of random real images (the control)."""
    cells = [
        {
            "dataset": score.figure.dataset,
            "ipc": str(score.figure.ipc),
            "method": score.figure.method,
            "seed": str(score.figure.seed),
            "network": score.figure.network,
            "LRS": fraction(score.label),
            "random's": fraction(score.label_control),
            "ARS": fraction(score.augmentation),
            "random's ": fraction(score.augmentation_control),
            "from": score.source,
        }
        for score in scores
    ]
    cells.sort(key=lambda row: tuple(row.values()))
    return make_sheet("robust scores (DD-Ranking)", cells)


def protocol_csv(rows: list[ComparedRow]) -> str:
    """Return the rows of one protocol as CSV for programs: accuracies are fractions."""
    lines = []
    for row in rows:
        comparison, random, paper = row.comparison, row.random, row.comparison.published
        compared = comparison.difference is not None
        line = {
            "protocol": row.first.protocol,
            "dataset": row.first.dataset,
            "ipc": row.first.ipc,
            "method": row.first.method,
            "network": row.network,
            "accuracy_mean": row.accuracy.mean,
            "accuracy_std": row.accuracy.std,
            "num_networks": row.accuracy.num_networks,
            "num_seeds": len(row.figures),
            "random_mean": random and random.mean,
            "random_std": random and random.std,
            "published_mean": paper and paper.mean,
            "published_std": paper and paper.std,
            "published_by": paper and paper.paper,
            "arxiv": paper and paper.arxiv,
            "known": paper and paper.known,
            "difference": comparison.difference,
            "flagged": comparison.flagged if compared else None,
            "distill_seconds": row.seconds,
            "peak_memory_bytes": row.memory,
            "artifact_bytes": row.num_bytes,
            "settings": row.differences,
            "note": comparison.note,
            "files": " ".join(str(figure.file) for figure in row.figures),
        }
        lines.append(line)
    return comma_separated(lines)


def percent(accuracy: Accuracy | None) -> str:
    """Return ``93.76 ± 0.40``; nothing for None."""
    if accuracy is None:
        return ""
    mean = f"{100 * accuracy.mean:.2f}"
    return mean if accuracy.std is None else f"{mean} ± {100 * accuracy.std:.2f}"


def with_count(group: SeedGroup) -> str:
    """Return ``93.76 ± 0.40 (6, 3 seeds)``, of six networks in all."""
    accuracy, seeds = group.accuracy, len(group.figures)
    more = f", {seeds} seeds" if seeds > 1 else ""
    return f"{percent(accuracy)} ({accuracy.num_networks}{more})"


def published_percent(published: PublishedFigure | None) -> str:
    """Return ``93.8 ± 0.4``, with the mark that says how it is known."""
    if published is None:
        return ""
    std = "" if published.std is None else f" ± {100 * published.std:.1f}"
    return f"{100 * published.mean:.1f}{std}{MARKS[published.known]}"


def difference(row: ComparedRow) -> str:
    """Return ``+0.6``, or ``-4.9 !`` where it is flagged."""
    if row.comparison.difference is None:
        return ""
    return f"{100 * row.comparison.difference:+.1f}" + (f" {FLAG}" * row.comparison.flagged)


def fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def legend(tables: dict[str, list[ComparedRow]], deviations: float, points: float) -> list[str]:
    """Return what the marks of the tables mean, and the papers, one sentence each."""
    rows = [row for table in tables.values() for row in table]
    published = [(row, figure) for row in rows if (figure := row.comparison.published) is not None]
    lines = []
    if any(row.comparison.difference is not None for row in rows):
        lines.append(
            f"{FLAG}: the difference is more than {deviations:g} joint standard deviations, "
            f"sqrt(ours² + published²), or {points:g} points where neither has one."
        )
    known = {figure.known for _, figure in published}
    lines += [
        f"Published figures with {mark.strip()}: {KNOWN[name]}."
        for name, mark in MARKS.items()
        if mark and name in known
    ]
    lines += sorted(
        {
            f"{figure.paper} ({row.first.method}, {row.first.dataset}): {figure.note}."
            for row, figure in published
            if figure.note
        }
    )
    papers = sorted({(figure.paper, figure.arxiv) for _, figure in published})
    if papers:
        listed = "; ".join(f"{paper} (arXiv {arxiv})" for paper, arxiv in papers)
        lines.append(f"Published: {listed}.")
    if any(len(row.figures) > 1 for row in rows):
        lines.append("Over several seeds: mean and standard deviation over seeds.")
    return lines
