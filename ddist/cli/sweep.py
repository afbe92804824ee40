"""What a sweep (``-m``) needs around its jobs: their shares of the cores, and folder names."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from ddist.cli.explain import explain
from ddist.cli.job_config import check_settings
from ddist.errors import DdistError
from ddist.tasks.config import num_cores

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

folders: list[Path] = []
"""Folders of the sweeps that this process has started: none, or one."""


class Sweep(Callback):
    """Hydra's callback. What it decides reaches the jobs as overrides, whatever launches them."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            prepare(config)
        except Exception as error:  # which Hydra would turn into a warning
            print(f"ddist: {explain(error, config.hydra.overrides.task)}", file=sys.stderr)
            raise SystemExit(1) from None


def prepare(config: DictConfig) -> None:
    """Note the sweep's folder, and add to the overrides of its jobs. Raise a DdistError for a
    search that would look for the worst, for settings that no job has, and where there is nothing
    to vary around."""
    folder = Path(str(config.hydra.sweep.dir)).expanduser().absolute()
    refuse_maximising(config.hydra.sweeper)
    check_settings(config)
    check_varied(config)
    folders.append(folder)
    threads = share_of_cores(config)
    with open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)  # the jobs may run elsewhere
        if config.threads is None and threads is not None:
            config.hydra.overrides.task.append(f"threads={threads}")
        keys = ",".join(f"'{key}'" for key in unnamed(config))
        config.hydra.overrides.hydra += [
            f"hydra.job.config.override_dirname.exclude_keys=[{keys}]",
            f"hydra.sweep.dir={quoted(folder)}",
        ]


def unnamed(config: DictConfig) -> list[str]:
    """Return the settings of the command line, and of a preset, that do not name a job's folder:
    those that are the same for all jobs. In a search, return all: its trials have numbers."""
    params = config.hydra.sweeper.get("params") or {}
    words = [f"{key}={value}" for key, value in params.items()]
    read = OverridesParser.create().parse_overrides([*words, *config.hydra.overrides.task])
    swept = {word.key_or_group: word.is_sweep_override() for word in read}  # the last one counts
    search = config.hydra.sweeper._target_ != BASIC
    return [key for key in swept if search or not swept[key]]


def share_of_cores(config: DictConfig) -> int | None:
    """Return the threads for each of the jobs that run at once; None where one runs alone."""
    launcher = config.hydra.launcher
    if "n_jobs" in launcher:  # joblib, for which -1 is all cores and -2 one less
        jobs = launcher.n_jobs if launcher.n_jobs > 0 else num_cores() + 1 + launcher.n_jobs
        return max(1, num_cores() // max(1, jobs))
    if "cpus_per_task" in launcher:  # submitit
        return None if launcher.cpus_per_task is None else int(launcher.cpus_per_task)
    if "ray" in launcher:
        return max(1, int(OmegaConf.select(launcher, "ray.remote.num_cpus") or 1))
    return None


def refuse_maximising(sweeper: DictConfig) -> None:
    """Raise a DdistError where a search would look for the worst."""
    if "maximize" in str(sweeper.get("direction")):
        raise DdistError(
            "What a run returns to a search is smaller for better ones (the validation accuracy "
            "negated, or the outer loss): leave hydra.sweeper.direction=minimize."
        )


def check_varied(config: DictConfig) -> None:
    """Raise a DdistError where a preset varies around a setting that the method does not have."""
    params = config.hydra.sweeper.get("params") or OmegaConf.create({})
    for key in map(str, params):
        if OmegaConf.is_interpolation(params, key) and OmegaConf.select(config, key) is None:
            raise DdistError(
                f"method={config.hydra.runtime.choices.method} has no {key}, around which this "
                "sweep varies: choose another method, or sweep over settings of its own with -m."
            )


def quoted(path: Path) -> str:
    """Return ``path`` as a value on Hydra's command line."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
