"""The jobs of a sweep as rows: seeds together, protocols apart, failures by their names."""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ddist.compare.gather import FAILURE, RESULTS, Accuracy, Figure, load, read
from ddist.compare.rows import mean_of, over_seeds
from ddist.compare.tables import Sheet, markdown, percent, with_count
from ddist.errors import DdistError
from ddist.formatting import duration

SELECTIONS = {"validation_accuracy": "validation %", "outer_loss": "outer loss"}

UsualProtocols = Callable[[list[str]], dict[str, dict[str, Any]]]
"""The settings of protocols in conf/evaluation, by their names."""

_NO_MATTER = {"seed", "resume", "threads"}
_COLUMNS = ("dataset", "ipc", "method")  # that every table has

Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SweepRow:
    """The jobs of the same overrides but for the seed, under one network and one protocol."""

    settings: dict[str, str]  # the overrides in which the sweep's jobs differ
    figures: list[Figure]  # one for each seed
    accuracy: Accuracy  # over seeds where there are several, else over networks
    random: Accuracy | None
    seconds: float | None  # of distilling, on average
    selection: tuple[str, float] | None  # what a search looks at, a key of SELECTIONS; on average

    @property
    def first(self) -> Figure:
        return self.figures[0]


@dataclass(frozen=True)
class Summary:
    tables: dict[str, list[SweepRow]]  # by protocol
    failed: dict[str, str]  # a job's overrides, and why it has no results

    def __bool__(self) -> bool:
        return bool(self.tables or self.failed)


def summarize(folder: Path | str, usual_protocols: UsualProtocols) -> Summary:
    """What the jobs of a sweep have found, from its folder (``hydra.sweep.dir``), whatever started
    them. Raises DdistError where there is no such folder."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DdistError(f"There is no folder {folder}: name the hydra.sweep.dir of a sweep.")
    notes = sorted(
        folder.glob("*/.hydra/overrides.yaml"), key=lambda each: natural(each.parents[1])
    )
    jobs = {note.parents[1]: overrides(note) for note in notes}
    failed: dict[str, str] = {}
    groups: dict[tuple[str, str, Settings], list[tuple[Figure, Any]]] = defaultdict(list)
    varied = varying(jobs.values())
    for job, words in jobs.items():
        try:
            if (job / FAILURE).exists():
                raise DdistError((job / FAILURE).read_text().strip())
            if not (job / RESULTS).exists():
                continue  # of a task without any
            results = load(job / RESULTS)
            figures = read(job / RESULTS, usual_protocols([str(results.get("protocol"))]))
        except DdistError as error:
            named = [f"{key}={words[key]}" for key in varied if key in words]
            failed[" ".join(named) or job.name] = str(error)
            continue
        settings = tuple((key, words[key]) for key in words if key not in _NO_MATTER)
        for each in figures:
            groups[each.protocol, each.network, settings].append((each, results.get("selection")))
    tables: dict[str, list[SweepRow]] = defaultdict(list)
    told = [key for key in varied if key not in _NO_MATTER]
    for (protocol, _, settings), members in groups.items():
        tables[protocol].append(make_row({k: v for k, v in settings if k in told}, members))
    return Summary(dict(sorted(tables.items())), failed)


def natural(job: Path) -> list[tuple[bool, float, str]]:
    """``ipc-2`` before ``ipc-10``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", job.name)
    return [(not p[:1].isdigit(), float(p) if p[:1].isdigit() else 0.0, p) for p in parts]


def overrides(note: Path) -> dict[str, str]:
    """Those of a job, as Hydra has noted them."""
    words = [str(each).lstrip("+~") for each in yaml.safe_load(note.read_text()) or []]
    return {key: value for key, _, value in (each.partition("=") for each in words)}


def varying(jobs: Iterable[dict[str, str]]) -> list[str]:
    """The settings in which ``jobs`` differ, in the order of the command line."""
    jobs = list(jobs)
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({job.get(key) for job in jobs}) > 1]


def make_row(settings: dict[str, str], members: list[tuple[Figure, Any]]) -> SweepRow:
    figures = sorted((figure for figure, _ in members), key=lambda each: each.seed)
    randoms = [each.random for each in figures if each.random is not None]
    selections = [selection for _, selection in members if selection]
    names = {each["name"] for each in selections}
    return SweepRow(
        settings,
        figures,
        over_seeds([each.accuracy for each in figures]),
        over_seeds(randoms) if randoms else None,
        mean_of(each.seconds for each in figures),
        (names.pop(), statistics.mean(each["value"] for each in selections))
        if len(names) == 1
        else None,
    )


def sweep_sheet(protocol: str, rows: list[SweepRow]) -> Sheet:
    """The rows of one protocol as text."""
    keys = dict.fromkeys(key for row in rows for key in row.settings if key not in _COLUMNS)
    names = dict.fromkeys(row.selection[0] for row in rows if row.selection)
    head = (
        *_COLUMNS, *keys, "network", "accuracy % (networks)", "random %",
        *(SELECTIONS[name] for name in names), "distilling",
    )  # fmt: skip
    cells = [
        (
            row.first.dataset,
            str(row.first.ipc),
            row.first.method,
            *(row.settings.get(key, "") for key in keys),
            row.first.network,
            with_count(row.accuracy, len(row.figures)),
            percent(row.random),
            *(selected(row, name) for name in names),
            "" if not row.seconds else duration(row.seconds),
        )
        for row in rows
    ]
    numbers = set(head) - {"dataset", "method", "network", *keys}
    return Sheet(protocol, head, cells, numbers).pruned()


def selected(row: SweepRow, name: str) -> str:
    """What a search looks at, in per cent where it is an accuracy; nothing where it is not
    ``name``."""
    if row.selection is None or row.selection[0] != name:
        return ""
    value = row.selection[1]
    return f"{100 * value:.2f}" if name == "validation_accuracy" else f"{value:.4g}"


def best(rows: list[SweepRow]) -> str | None:
    """Which settings did best on the held-out images; None where there are none, or no choice."""
    known = [row for row in rows if row.selection and row.selection[0] == "validation_accuracy"]
    if len(known) < 2 or not known[0].settings:
        return None
    first = max(known, key=lambda row: row.selection[1] if row.selection else 0.0)
    settings = " ".join(f"{key}={value}" for key, value in first.settings.items())
    return f"Best by validation accuracy ({selected(first, 'validation_accuracy')} %): {settings}."


def remarks(summary: Summary) -> list[str]:
    """What stands below the tables."""
    rows = [row for table in summary.tables.values() for row in table]
    lines = []
    if any(len(row.figures) > 1 for row in rows):
        lines.append("Over several seeds: mean and standard deviation over seeds.")
    lines += [line for table in summary.tables.values() if (line := best(table))]
    return lines + [f"Failed: {job}: {why}" for job, why in summary.failed.items()]


def sweep_markdown(summary: Summary) -> str:
    """``sweep.md``."""
    sheets = [sweep_sheet(name, rows) for name, rows in summary.tables.items()]
    return markdown(sheets, remarks(summary), "Sweep")
