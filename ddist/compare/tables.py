"""The rows of each protocol as a table: for the terminal, Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from ddist.artifact.card import markdown_table
from ddist.compare.gather import Accuracy
from ddist.compare.published import KNOWN, Published
from ddist.compare.rows import Row
from ddist.compare.scores import Scores
from ddist.formatting import duration, size

FLAG = "!"
WIDTH = 160  # of tables in files and pipes
MARKS = {"seen": "", "comparison": " *", "memory": " ?"}


@dataclass(frozen=True)
class Sheet:
    """A table as text. Columns that are empty throughout are left out."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: set[str]  # the columns that are flushed right

    def pruned(self) -> "Sheet":
        kept = [i for i in range(len(self.head)) if any(row[i] for row in self.rows)]
        head = tuple(self.head[i] for i in kept)
        return Sheet(
            self.title, head, [tuple(row[i] for i in kept) for row in self.rows], self.numbers
        )


def protocol_sheet(protocol: str, rows: list[Row]) -> Sheet:
    """The rows of one protocol."""
    head = (
        "dataset", "ipc", "method", "network", "accuracy % (networks)", "random %", "published %",
        "difference", "distilling", "size", "settings", "note",
    )  # fmt: skip
    return Sheet(protocol, head, [cells(row) for row in rows], set(head[4:10]) | {"ipc"}).pruned()


def cells(row: Row) -> tuple[str, ...]:
    first, found = row.first, row.comparison
    return (
        first.dataset,
        str(first.ipc),
        first.method,
        row.network,
        with_count(row.accuracy, len(row.figures)),
        percent(row.random),
        published_percent(found.published),
        difference(row),
        "" if not row.seconds else duration(row.seconds),
        "" if row.num_bytes is None else size(row.num_bytes),
        row.told,
        found.note,
    )


def numbers(rows: list[Row]) -> str:
    """The rows of one protocol as CSV for programs: accuracies are fractions."""
    head = (
        "protocol", "dataset", "ipc", "method", "network", "accuracy_mean", "accuracy_std",
        "num_networks", "num_seeds", "random_mean", "random_std", "published_mean",
        "published_std", "published_by", "arxiv", "known", "difference", "flagged",
        "distill_seconds", "peak_memory_bytes", "artifact_bytes", "settings", "note", "files",
    )  # fmt: skip
    lines = []
    for row in rows:
        first, found, random = row.first, row.comparison, row.random
        paper = found.published
        lines.append(
            (
                first.protocol,
                first.dataset,
                first.ipc,
                first.method,
                row.network,
                row.accuracy.mean,
                row.accuracy.std,
                row.accuracy.num_networks,
                len(row.figures),
                *((None, None) if random is None else (random.mean, random.std)),
                *(
                    5 * (None,)
                    if paper is None
                    else (paper.mean, paper.std, paper.paper, paper.arxiv, paper.known)
                ),
                found.difference,
                found.flagged if found.difference is not None else None,
                row.seconds,
                row.memory,
                row.num_bytes,
                row.told,
                found.note,
                " ".join(str(each.file) for each in row.figures),
            )
        )
    return comma_separated(head, lines)


def percent(accuracy: Accuracy | None) -> str:
    """``93.76 ± 0.40``; nothing for None."""
    if accuracy is None:
        return ""
    mean = f"{100 * accuracy.mean:.2f}"
    return mean if accuracy.std is None else f"{mean} ± {100 * accuracy.std:.2f}"


def with_count(accuracy: Accuracy, seeds: int) -> str:
    """``93.76 ± 0.40 (6, 3 seeds)``, of six networks in all."""
    more = f", {seeds} seeds" if seeds > 1 else ""
    return f"{percent(accuracy)} ({accuracy.num_networks}{more})"


def published_percent(published: Published | None) -> str:
    """``93.8 ± 0.4``, with the mark that says how it is known."""
    if published is None:
        return ""
    std = "" if published.std is None else f" ± {100 * published.std:.1f}"
    return f"{100 * published.mean:.1f}{std}{MARKS[published.known]}"


def difference(row: Row) -> str:
    """``+0.6``, or ``-4.9 !`` where it is flagged."""
    found = row.comparison.difference
    if found is None:
        return ""
    return f"{100 * found:+.1f}" + (f" {FLAG}" if row.comparison.flagged else "")


def scores_sheet(scores: list[Scores]) -> Sheet:
    """The robust scores, in [0, 1], beside those of random real images (the control)."""
    head = ("dataset", "ipc", "method", "seed", "network", "LRS", "random's", "ARS", "random's ",
            "from")  # fmt: skip
    rows = [
        (
            each.figure.dataset,
            str(each.figure.ipc),
            each.figure.method,
            str(each.figure.seed),
            each.figure.network,
            fraction(each.label),
            fraction(each.label_control),
            fraction(each.augmentation),
            fraction(each.augmentation_control),
            each.source,
        )
        for each in scores
    ]
    numbers = {"ipc", "seed", "LRS", "random's", "ARS", "random's "}
    return Sheet("robust scores (DD-Ranking)", head, sorted(rows), numbers).pruned()


def fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def legend(tables: dict[str, list[Row]], deviations: float, points: float) -> list[str]:
    """What the marks of the tables mean, and the papers, one sentence each."""
    found = [row.comparison for rows in tables.values() for row in rows]
    lines = []
    if any(each.difference is not None for each in found):
        lines.append(
            f"{FLAG}: the difference is more than {deviations:g} joint standard deviations, "
            f"sqrt(ours² + published²), or {points:g} points where neither has one."
        )
    known = {each.published.known for each in found if each.published is not None}
    lines += [
        f"Published figures with {MARKS[name].strip()}: {KNOWN[name]}."
        for name in MARKS
        if name in known and MARKS[name]
    ]
    remarks = {
        f"{each.published.paper} ({row.first.method}, {row.first.dataset}): {each.published.note}."
        for rows in tables.values()
        for row in rows
        if (each := row.comparison).published is not None and each.published.note
    }
    lines += sorted(remarks)
    papers = {
        (each.published.paper, each.published.arxiv) for each in found if each.published is not None
    }
    if papers:
        listed = "; ".join(f"{paper} (arXiv {arxiv})" for paper, arxiv in sorted(papers))
        lines.append(f"Published: {listed}.")
    if any(len(row.figures) > 1 for rows in tables.values() for row in rows):
        lines.append("Over several seeds: mean and standard deviation over seeds.")
    return lines


def console() -> Console:
    """Where tables are printed, wide enough for them in files and pipes."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=WIDTH)


def rich_table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_style="bold", title_justify="left")
    for name in sheet.head:
        number = name in sheet.numbers
        table.add_column(
            name.strip(),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number or name in ("dataset", "method", "network"),
        )
    for i, row in enumerate(sheet.rows):
        if i and row[:2] != sheet.rows[i - 1][:2]:
            table.add_section()
        table.add_row(*row)
    return table


def markdown(sheets: list[Sheet], notes: Sequence[str], title: str = "Comparison") -> str:
    """A section for each table, the notes below."""
    parts = [
        f"## {sheet.title}\n\n"
        + markdown_table(
            sheet.head, [tuple(cell.replace("|", "\\|") for cell in r) for r in sheet.rows]
        )
        for sheet in sheets
    ]
    listed = "".join(f"- {note}\n" for note in notes)
    return "\n".join([f"# {title}\n", *parts, *([listed] if listed else [])])


def comma_separated(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.strip() for name in head])
    writer.writerows(rows)
    return text.getvalue()


def latex(sheets: list[Sheet], notes: Sequence[str]) -> str:
    """A table for each sheet (package booktabs), the notes as comments above."""
    parts = [f"% {note}\n" for note in ("Needs \\usepackage{booktabs}.", *notes)]
    for sheet in sheets:
        columns = "".join("r" if name in sheet.numbers else "l" for name in sheet.head)
        lines = [" & ".join(map(escaped, row)) + r" \\" for row in sheet.rows]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{escaped(sheet.title)}}}",
                    rf"\begin{{tabular}}{{{columns}}}",
                    r"\toprule",
                    " & ".join(escaped(name.strip()) for name in sheet.head) + r" \\",
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                    "",
                ]
            )
        )
    return "\n".join(parts)


def escaped(text: str) -> str:
    """``text`` as LaTeX prints it."""
    text = re.sub(r"([\\{}])", lambda found: {"\\": r"\textbackslash{}"}.get(
        found[1], "\\" + found[1]), text)  # fmt: skip
    text = re.sub(r"([%&_#$])", r"\\\1", text)
    return text.replace("±", r"$\pm$").replace("²", "$^2$").replace("…", r"\dots{}")


def file_name(protocol: str) -> str:
    """``dc2021_dsa_epochs-300`` of ``dc2021_dsa (epochs=300)``."""
    return re.sub(r"[^\w.]+", "-", protocol).strip("-")
