"""task=compare: many runs in tables and plots, beside what papers publish."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Le
from omegaconf import DictConfig

from ddist.compare.gather import gather
from ddist.compare.plots import draw_plots
from ddist.compare.robust import robust_scores
from ddist.compare.rows import ComparedRow, make_rows
from ddist.compare.sheet import (
    Sheet,
    comma_separated,
    console,
    file_name,
    latex,
    markdown,
    rich_table,
)
from ddist.compare.tables import legend, protocol_csv, protocol_sheet, scores_sheet
from ddist.errors import DdistError
from ddist.report.comparison import comparison_page
from ddist.settings.ranges import NonNegative
from ddist.storage.atomic import write_file_whole
from ddist.tasks.names import find_patterns
from ddist.tasks.usual import usual_networks, usual_protocols

PAGE = "compare.html"
log = logging.getLogger(__name__)


def run(
    cfg: DictConfig,
    *,
    deviations: NonNegative,
    points: NonNegative,
    full: Annotated[float, Gt(0), Le(1)] | None,
) -> None:
    """Compare the runs in ``cfg.runs``: print a table for each protocol, and write the tables,
    plots and a page with all of them to the run's folder. See
    :func:`ddist.compare.published.compare` for the limits and
    :func:`ddist.compare.robust.robust_scores` for ``full``."""
    comparison = compared(find_patterns(cfg), deviations, points, full)
    for problem in comparison.problems:
        log.warning("%s", problem)
    tables, sheets, notes = comparison.tables, comparison.sheets, comparison.notes
    folder = Path(cfg.paths.run)
    texts = {f"{file_name(name)}.csv": protocol_csv(rows) for name, rows in tables.items()}
    if comparison.scores is not None:
        texts["robust_scores.csv"] = comma_separated(comparison.scores.rows)
    texts |= {"compare.md": markdown(sheets, notes), "compare.tex": latex(sheets, notes)}
    for name, text in texts.items():
        write_file_whole(folder / name, text.encode())
    plots = draw_plots(tables, folder)
    rows = [row for table in tables.values() for row in table]
    title = f"{comparison.num_files} runs compared"
    page = comparison_page(title, sheets, notes, rows, plots)
    write_file_whole(folder / PAGE, page.encode())
    screen = console()
    for sheet in sheets:
        screen.print(rich_table(sheet))
    for note in notes:
        screen.print(note, highlight=False, markup=False)
    log.info("%d runs compared: tables and plots are in %s.", comparison.num_files, folder)
    log.info("All of it on one page: %s", folder / PAGE)


@dataclass(frozen=True)
class Compared:
    """The outcome of comparing runs."""

    tables: dict[str, list[ComparedRow]]  # by protocol
    scores: Sheet | None  # the robust ones
    notes: list[str]
    problems: list[str]  # a sentence for each file that was left out
    num_files: int

    @property
    def sheets(self) -> list[Sheet]:
        sheets = [protocol_sheet(name, rows) for name, rows in self.tables.items()]
        return sheets if self.scores is None else [*sheets, self.scores]


def compared(runs: list[str], deviations: float, points: float, full: float | None) -> Compared:
    """Compare all that ``runs`` (files, folders or patterns) hold; see :func:`run`. Raise a
    DdistError where they lead to no usable results.json."""
    gathered = gather(runs, usual_protocols())
    if not gathered.figures:
        raise DdistError(
            f"Nothing to compare: runs={' '.join(runs)} leads to no usable results.json; name "
            "run folders or a pattern, such as runs='outputs/**'."
        )
    networks = usual_networks()
    tables = make_rows(gathered.figures, networks, deviations, points)
    scores = robust_scores(gathered.figures, full, networks)
    return Compared(
        tables,
        scores_sheet(scores) if scores else None,
        legend(tables, deviations, points),
        gathered.problems,
        len({figure.file for figure in gathered.figures}),
    )
