"""The end of a sweep, and the jobs of one that goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ddist.compare.files import RESULTS
from ddist.compare.settings import learned, values_alone
from ddist.compare.sheet import console, rich_table
from ddist.compare.sweep import remarks, summarize, sweep_markdown
from ddist.settings.groups import keys
from ddist.storage.atomic import write_file_whole
from ddist.tasks.config import to_plain
from ddist.tasks.jobs import is_job
from ddist.tasks.upgrade import upgrade
from ddist.tasks.usual import usual_protocols


def finished(cfg: DictConfig) -> dict[str, Any] | None:
    """Return the results of a sweep's job that was done before with these very settings; None where
    it is to be done."""
    file = Path(cfg.paths.run) / RESULTS
    if not (is_job() and cfg.resume and file.exists()):
        return None
    try:
        results: dict[str, Any] = json.loads(file.read_text())
        made = OmegaConf.create(upgrade(results["provenance"]["config"]))
        for name, value in results["provenance"].get("asked", {}).items():
            OmegaConf.update(made, name, value, merge=False)  # as it was before it was filled in
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    asked = json.loads(json.dumps(to_plain(cfg)))
    return results if decisive(to_plain(made)) == decisive(asked) else None


def decisive(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that results depend on."""
    evaluated = keys(lambda key: key.evaluated and not key.learned)
    return learned(config) | {f"of {key}": values_alone(config.get(key)) for key in evaluated}


def conclude(folder: Path, say: Callable[[str], None]) -> None:
    """Print the tables of the sweep in ``folder`` and write ``sweep.md`` there."""
    summary = summarize(folder, usual_protocols)
    if not summary:
        return
    screen = console()
    for sheet in summary.sheets:
        screen.print(rich_table(sheet))
    for line in remarks(summary):
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
    write_file_whole(folder / "sweep.md", sweep_markdown(summary).encode())
    say(f"The sweep: {folder / 'sweep.md'}")
    if summary.failed:
        say(f"The same command with hydra.sweep.dir={folder} does what is missing.")
