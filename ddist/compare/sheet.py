"""A table as text: for the terminal, Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ddist.artifact.card import markdown_table

WIDTH = 160  # of tables in files and pipes
SELECTIONS = {"validation_accuracy": "validation %", "outer_loss": "outer loss"}
NUMBERS = {"ipc", "seed", "accuracy % (networks)", "random %", "published %", "difference",
           "distilling", "size", "LRS", "random's", "ARS", "random's ",
           *SELECTIONS.values()}  # fmt: skip
"""The columns that are flushed right."""
LATEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "{}%&_#$"},
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "²": "$^2$",
        "…": r"\dots{}",
    }
)


@dataclass(frozen=True)
class Sheet:
    """A table as text: rows that all have the same columns."""

    title: str
    rows: list[dict[str, str]]

    @property
    def head(self) -> tuple[str, ...]:
        return tuple(self.rows[0])

    @property
    def cells(self) -> list[tuple[str, ...]]:
        return [tuple(row.values()) for row in self.rows]


def make_sheet(title: str, rows: list[dict[str, str]]) -> Sheet:
    """Return the table of ``rows`` without the columns that are empty throughout."""
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    return Sheet(title, [{name: row[name] for name in filled} for row in rows])


def console() -> Console:
    """Return where tables are printed, wide enough for them in files and pipes."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=max(WIDTH, screen.width))


def rich_table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_style="bold", title_justify="left")
    for name in sheet.head:
        number = name in NUMBERS
        table.add_column(
            name.strip(),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number or name in ("dataset", "method", "network"),
        )
    above = None
    for row in sheet.cells:
        if above not in (None, row[:2]):
            table.add_section()
        above = row[:2]
        table.add_row(*row)
    return table


def markdown(sheets: list[Sheet], notes: Sequence[str], title: str = "Comparison") -> str:
    """Return a section for each table, the notes below."""
    sections = [
        f"## {sheet.title}\n\n"
        + markdown_table(
            sheet.head, [tuple(cell.replace("|", "\\|") for cell in row) for row in sheet.cells]
        )
        for sheet in sheets
    ]
    listed = "".join(f"- {note}\n" for note in notes)
    return "\n".join([f"# {title}\n", *sections, *([listed] if listed else [])])


def comma_separated(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[name.strip() for name in rows[0]], *(row.values() for row in rows)])
    return text.getvalue()


def latex(sheets: list[Sheet], notes: Sequence[str]) -> str:
    """Return a table for each sheet (package booktabs), the notes as comments above."""
    lines = [f"% {note}\n" for note in ("Needs \\usepackage{booktabs}.", *notes)]
    for sheet in sheets:
        head, *rows = (
            " & ".join(cell.strip().translate(LATEX) for cell in row) + r" \\"
            for row in (sheet.head, *sheet.cells)
        )
        columns = "".join("r" if name in NUMBERS else "l" for name in sheet.head)
        lines += [
            r"\begin{table}",
            rf"\caption{{{sheet.title.translate(LATEX)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            "\\bottomrule\n\\end{tabular}\n\\end{table}\n",
        ]
    return "\n".join(lines)


def file_name(protocol: str) -> str:
    """Return ``dc2021_dsa_epochs-300`` of ``dc2021_dsa (epochs=300)``."""
    return re.sub(r"[^\w.]+", "-", protocol).strip("-")
