"""The jobs of a sweep as rows: seeds together, protocols apart, failures by their names."""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddist.compare.files import FAILURE, RESULTS, load, use_of
from ddist.compare.gather import Figure, read
from ddist.compare.rows import SeedGroup
from ddist.compare.sheet import SELECTIONS, Sheet, make_sheet, markdown
from ddist.compare.tables import percent, with_count
from ddist.errors import DdistError
from ddist.formatting import duration

UsualProtocols = Callable[[list[str]], dict[str, dict[str, Any]]]
"""The settings of protocols in conf/evaluation, by their names."""

_UNTOLD = {"seed", "resume", "threads"}  # overrides that make no row of their own
_COLUMNS = ("dataset", "ipc", "method")  # that every table has

Overrides = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SweepRow(SeedGroup):
    """The jobs of the same overrides but for the seed, under one network and one protocol."""

    settings: dict[str, str]  # the overrides in which the sweep's jobs differ
    selection: tuple[str, float] | None  # what a search looks at, a key of SELECTIONS; on average

    @property
    def selected(self) -> str:
        """Return what a search looks at, in per cent where it is an accuracy."""
        name, value = self.selection or ("", 0.0)
        return f"{100 * value:.2f}" if name == "validation_accuracy" else f"{value:.4g}"


@dataclass(frozen=True)
class Summary:
    tables: dict[str, list[SweepRow]]  # by protocol
    failed: dict[str, str]  # a job's overrides, and why it has no results
    uses: list[Sheet] = field(default_factory=list)  # of jobs such as task=rank, by task

    def __bool__(self) -> bool:
        return bool(self.tables or self.failed or self.uses)

    @property
    def sheets(self) -> list[Sheet]:
        """All tables as text."""
        return [*(sweep_sheet(name, rows) for name, rows in self.tables.items()), *self.uses]


def summarize(folder: Path | str, usual_protocols: UsualProtocols) -> Summary:
    """Return what the jobs of a sweep have found, from its folder (``hydra.sweep.dir``), whatever
    started them. Raises DdistError where there is no such folder."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DdistError(f"There is no folder {folder}: name the hydra.sweep.dir of a sweep.")
    notes = folder.glob("*/.hydra/overrides.yaml")
    jobs = {note.parents[1]: overrides(note) for note in sorted(notes, key=natural)}
    failed: dict[str, str] = {}
    groups: dict[tuple[str, str, Overrides], list[tuple[Figure, Any]]] = defaultdict(list)
    varied = varying(jobs.values())
    uses: dict[str, list[dict[str, str]]] = defaultdict(list)
    for job, words in jobs.items():
        try:
            if (job / FAILURE).exists():
                raise DdistError((job / FAILURE).read_text().strip())
            if not (job / RESULTS).exists():
                continue  # of a task without any
            if (use := use_of(job / RESULTS)) is not None:
                uses[use["task"]].append(use_cells(use, {k: words.get(k, "") for k in varied}))
                continue
            results = load(job / RESULTS)
            figures = read(job / RESULTS, usual_protocols([str(results.get("protocol"))]))
        except DdistError as error:
            told_apart = [f"{key}={words[key]}" for key in varied if key in words]
            failed[" ".join(told_apart) or job.name] = str(error)
            continue
        settings = tuple((key, words[key]) for key in words if key not in _UNTOLD)
        for figure in figures:
            group = groups[figure.protocol, figure.network, settings]
            group.append((figure, results.get("selection")))
    tables: dict[str, list[SweepRow]] = defaultdict(list)
    for (protocol, _, settings), members in groups.items():
        row_settings = {key: value for key, value in settings if key in varied}
        tables[protocol].append(make_row(row_settings, members))
    sheets = [make_sheet(task, filled(rows)) for task, rows in uses.items()]
    return Summary(dict(sorted(tables.items())), failed, sheets)


def use_cells(results: dict[str, Any], settings: dict[str, str]) -> dict[str, str]:
    """Return the row of a job that holds no accuracies of one set: its summary, as text."""
    figures = {
        name: "-" if value is None else f"{value:.4g}" for name, value in results["summary"].items()
    }
    own = {name: str(results.get(name, "")) for name in ("dataset", "ipc", "method")}
    return {**own, **settings, **figures}


def filled(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows with the columns of all of them, empty where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


def natural(note: Path) -> list[tuple[bool, float, str]]:
    """Return a key that sorts the job ``ipc-2`` before ``ipc-10``."""
    words = re.split(r"(\d+(?:\.\d+)?)", note.parents[1].name)
    return [(not w[:1].isdigit(), float(w) if w[:1].isdigit() else 0.0, w) for w in words]


def overrides(note: Path) -> dict[str, str]:
    """Return the overrides of a job, as Hydra has noted them."""
    words = [str(word).lstrip("+~") for word in yaml.safe_load(note.read_text()) or []]
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def varying(jobs: Iterable[dict[str, str]]) -> list[str]:
    """Return the settings in which ``jobs`` differ, in the order of the command line."""
    jobs = list(jobs)
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({job.get(key) for job in jobs}) > 1]


def make_row(settings: dict[str, str], members: list[tuple[Figure, Any]]) -> SweepRow:
    figures = sorted((figure for figure, _ in members), key=lambda figure: figure.seed)
    selections = [selection for _, selection in members if selection]
    names = {selection["name"] for selection in selections}
    if len(names) != 1:
        return SweepRow(figures, settings, None)
    mean = statistics.mean(selection["value"] for selection in selections)
    return SweepRow(figures, settings, (names.pop(), mean))


def sweep_sheet(protocol: str, rows: list[SweepRow]) -> Sheet:
    """Return the rows of one protocol as text."""
    keys = dict.fromkeys(key for row in rows for key in row.settings if key not in _COLUMNS)
    names = dict.fromkeys(row.selection[0] for row in rows if row.selection)
    cells = [
        {
            "dataset": row.first.dataset,
            "ipc": str(row.first.ipc),
            "method": row.first.method,
            **{key: row.settings.get(key, "") for key in keys},
            "network": row.first.network,
            "accuracy % (networks)": with_count(row),
            "random %": percent(row.random),
            **{
                SELECTIONS[name]: row.selected if (row.selection or ("",))[0] == name else ""
                for name in names
            },
            "distilling": "" if not row.seconds else duration(row.seconds),
        }
        for row in rows
    ]
    return make_sheet(protocol, cells)


def best_settings(rows: list[SweepRow]) -> str | None:
    """Return which settings did best on the held-out images; None where there are none, or no
    choice."""
    known = [row for row in rows if row.selection and row.selection[0] == "validation_accuracy"]
    if len(known) < 2 or not known[0].settings:
        return None
    first = max(known, key=lambda row: row.selection[1] if row.selection else 0.0)
    settings = " ".join(f"{key}={value}" for key, value in first.settings.items())
    return f"Best by validation accuracy ({first.selected} %): {settings}."


def remarks(summary: Summary) -> list[str]:
    """Return what stands below the tables."""
    rows = [row for table in summary.tables.values() for row in table]
    lines = []
    if any(len(row.figures) > 1 for row in rows):
        lines.append("Over several seeds: mean and standard deviation over seeds.")
    lines += [line for table in summary.tables.values() if (line := best_settings(table))]
    return lines + [f"Failed: {job}: {why}" for job, why in summary.failed.items()]


def sweep_markdown(summary: Summary) -> str:
    """Return the text of ``sweep.md``."""
    return markdown(summary.sheets, remarks(summary), "Sweep")
