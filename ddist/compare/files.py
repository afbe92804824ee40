"""Files of results: ``results.json`` of one run, and ``*.jsonl`` of kept runs, one a line."""

import glob
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddist.errors import DdistError

RESULTS = "results.json"
KEPT = ".jsonl"
"""Ends the name of a file of kept runs: a line is a ``results.json`` with a ``name``."""
FAILURE = "error.txt"
"""In a job's folder: why it failed; while it runs, and after a kill, that it did not finish."""

NEEDED: dict[str, type | tuple[type, ...]] = {
    "method": str,
    "dataset": str,
    "network": str,
    "init": str,
    "ipc": int,
    "seed": int,
    "evaluation": list,
    "baselines": dict,
    "cost": dict,
    "provenance": dict,
}


def find(runs: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Return the files of results that ``runs`` name, as files, folders or patterns, ``**`` being
    any depth; and a sentence for each run there that left none. Of kept runs a folder has those
    that lie in itself."""
    files: dict[Path, None] = {}
    problems: dict[str, None] = {}
    for pattern in runs:
        text = str(Path(pattern).expanduser())
        while text.endswith("/**"):  # what a folder means anyway
            text = text.removesuffix("/**")
        matches = [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True))
        for match in map(Path, matches):
            if match.is_dir():
                files.update(
                    dict.fromkeys(sorted([*match.rglob(RESULTS), *match.glob(f"*{KEPT}")]))
                )
                problems |= {
                    f"{note.parent} has no {RESULTS}: that run did not finish.": None
                    for note in sorted(match.rglob("settings.json"))
                    if not (note.parent / RESULTS).exists()
                }
            elif match.name == RESULTS or str(match) == text:
                files[match] = None
    return list(files), list(problems)


def texts(file: Path) -> list[tuple[Path, str]]:
    """Return each run's text in a file of results, and what to call it: the file, or its line in a
    file of kept runs. Raise a DdistError where it cannot be read."""
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        raise DdistError(f"it cannot be read ({error.strerror}).") from None
    if file.suffix != KEPT:
        return [(file, text)]
    return [(Path(f"{file}:{i}"), line) for i, line in enumerate(text.splitlines(), 1)]


def use_of(file: Path) -> dict[str, Any] | None:
    """Return the dict of a results.json that holds no accuracies of one set but what a task such
    as task=rank found of its use; None for any other file."""
    try:
        results = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return results if isinstance(results, dict) and isinstance(results.get("task"), str) else None


def load(file: Path) -> dict[str, Any]:
    """Return results.json's dict, known to have what is needed. Raise a DdistError else."""
    ((_, text),) = texts(file)
    return parse(text)


def parse(text: str) -> dict[str, Any]:
    """Return the dict of a run's results, known to have what is needed. Raise a DdistError else."""
    try:
        results = json.loads(text)
    except (ValueError, RecursionError):
        raise DdistError("it is damaged (not JSON): run it again.") from None
    if not isinstance(results, dict) or not isinstance(results.get("schema"), int):
        raise DdistError("it was not written by ddist.")
    if results["schema"] != 1:
        raise DdistError(f"it has schema {results['schema']}: a newer ddist reads that.")
    for key, expected in NEEDED.items():
        if not isinstance(results.get(key), expected):
            raise DdistError(f"it has no {key!r} as ddist writes it.")
    if not isinstance(results["provenance"].get("config"), dict):
        raise DdistError("it does not say with which settings it was made (provenance.config).")
    if not results["evaluation"]:
        raise DdistError("it holds no evaluation.")
    return results
