"""The bridge from YAML to values: where conf/ lies, the resolvers it uses, and what a run's
settings are called."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ddist.compare.settings import learned
from ddist.errors import DdistError
from ddist.storage.signature import signature
from ddist.tasks.recipes import install, register_recipes

_LONGEST_NAME = 200
ROW = re.compile(r"\$\{row:\w+(?:,\s*([\w.]+))?\}")  # a value from a table, and which
_SETTING = {"dataset": "dataset.name"}  # by another name in a row


def conf_dir() -> Path:
    """Return the folder of the YAML files: inside the installed package, or the checkout's."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "conf"


def register_resolvers() -> None:
    """Make the functions that the YAML files call available to OmegaConf, and to Hydra the
    recipes, of which many are in a file."""
    resolvers: dict[str, Callable[..., Any]] = {
        "row": from_row,
        "at_most": numeric(min),
        "share": numeric(lambda count, share: max(1, round(count * share))),
        "times": numeric(lambda value, factor: value * factor),
        "inverse": numeric(lambda value: 1 / value),
        "ddist_path": default_path,
        "laptop_preset": laptop_preset,
        "factors": lambda value, factors: ",".join(f"{value * factor:g}" for factor in factors),
        "between": lambda value, low, high: (
            f"tag(log, interval({float(value * low)}, {float(value * high)}))"
        ),
        "job_folder": job_folder,
        "jobs_at_once": jobs_at_once,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    register_recipes(conf_dir() / "recipe")
    install()


def numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` with a guard: a TypeError for arguments that are no numbers."""

    def checked(*values: Any) -> Any:
        for value in values:
            if not isinstance(value, int | float):
                raise TypeError(f"{value!r} is no number")
        return function(*values)

    return checked


def real_each(cfg: DictConfig) -> int:
    """Return the real images that an image of ``ipc`` starts from."""
    return int(cfg.synthetic.factor**2 * cfg.synthetic.get("copies", 1))


def examples_each(cfg: DictConfig) -> int:
    """Return the training images that an image of ``ipc`` becomes."""
    return real_each(cfg) * (2 if cfg.synthetic.get("mirror", False) else 1)


def from_row(column: str, table: str = "by_ipc", *, _root_: DictConfig) -> Any:
    """Return the value of ``column`` in the row of a table that the run is nearest to.

    A table is a list of rows in the config, ``{ipc: 10, student_steps: 30, ...}``, by its name from
    the root. A row with ``dataset`` belongs to that dataset alone, one with the name of a setting
    (``init.fixed: true``) to runs with that value, and one without ``ipc`` to all of them. A
    recipe's table replaces its method's.
    """
    row = row_of(_root_, table)
    if column not in row:
        raise DdistError(
            f"The table {table} has no column {column}: a table replaces that of what it starts "
            "from as a whole, and needs each column that is asked for."
        )
    return row[column]


def row_of(cfg: DictConfig, table: str) -> DictConfig:
    """Return the row of ``table`` that the run of ``cfg`` is nearest to (see :func:`from_row`)."""
    rows = OmegaConf.select(cfg, table) or []
    fitting = [row for row in rows if _conditions(row).items() <= _run(cfg, rows).items()]
    if not rows:
        raise DdistError(f"The table {table} is empty.")
    if not fitting:
        known = dict.fromkeys(_in_words(_conditions(row)) for row in rows)
        raise DdistError(
            f"There are no settings for {_in_words(_run(cfg, rows))} in this preset: choose one of "
            f"{', '.join(known)}."
        )
    return min(fitting, key=lambda row: _distance(cfg.ipc, row.get("ipc", cfg.ipc)))


def _distance(ipc: int, published: int) -> tuple[float, int]:
    """Return the distance of two ipcs, by their ratio; of two alike the smaller is nearer."""
    return max(ipc / published, published / ipc), published


def _run(cfg: DictConfig, rows: Iterable[DictConfig]) -> dict[str, Any]:
    """Return the settings of ``cfg`` that any of ``rows`` asks for."""
    names = dict.fromkeys(name for row in rows for name in _conditions(row))
    return {name: OmegaConf.select(cfg, _SETTING.get(name, name)) for name in names}


def _conditions(row: DictConfig) -> dict[str, Any]:
    """Return the settings of the runs that a row of a table is for."""
    return {name: row[name] for name in map(str, row) if name in _SETTING or "." in name}


def _in_words(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={str(value).lower()}" for name, value in settings.items())


def borrowed_ipcs(cfg: DictConfig) -> set[int]:
    """Return the published ipcs whose settings stand in because there are none for ``cfg.ipc``."""
    tables = {name or "by_ipc" for name in ROW.findall(OmegaConf.to_yaml(cfg, resolve=False))}
    return {row_of(cfg, table).get("ipc", cfg.ipc) for table in tables} - {cfg.ipc}


def default_path(variable: str, subfolder: str) -> str:
    """Return the folder that the environment variable names, or ~/.cache/ddist/<subfolder>."""
    return os.environ.get(variable) or str(Path.home() / ".cache" / "ddist" / (subfolder or ""))


def laptop_preset(method: str) -> str | None:
    """Return the experiment that has settings of ``method`` for 2 CPU cores, if there is one."""
    return f"laptop/{method}" if method in option_names("experiment/laptop") else None


def job_folder(overrides: str, number: int) -> str:
    """Return the name of a job's folder within that of its sweep: what is swept (``ipc-1_seed-0``),
    so that a job keeps its folder in a larger sweep; its number where nothing is swept."""
    if not overrides:
        return str(number)
    name = re.sub(r"[^\w.+-]+", "_", overrides)
    # a folder's name has 255 bytes at most, and two that read the same must not be one
    if name == overrides and len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 4]}-{signature({'overrides': overrides})}"


def jobs_at_once(threads: int | None, accelerator: str) -> int:
    """Return how many jobs of ``threads`` each (one, if None) this machine has the cores for; one
    where they would share an accelerator."""
    import torch  # takes seconds, and few commands come here

    if accelerator != "cpu" and torch.accelerator.is_available():
        return 1
    return max(1, num_cores() // (threads or 1))


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def composed_apart(overrides: Iterable[str], *, with_hydra: bool = False) -> DictConfig:
    """Return the config that a command line of ``overrides`` composes, within a run or without one,
    Hydra's own settings too if ``with_hydra``. Raise Hydra's errors."""
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("config", list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = running


def option_names(group: str) -> list[str]:
    """Return the names of a group's options, without the files whose names begin with ``_``, which
    hold what options start from."""
    folder = conf_dir() / group
    files = folder.rglob("[!_]*.yaml")
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files)


def load_option(group: str, name: str) -> DictConfig:
    """Return the config of any option of a group, e.g. ("network", "convnet"), chosen or not.
    Search where Hydra does, so that --config-dir works. Raise a DdistError for an unknown name."""
    sources = HydraConfig.get().runtime.config_sources
    return read_option(group, name, [Path(s.path) for s in sources if s.schema == "file"])


def read_option(group: str, name: str, roots: Sequence[Path] = ()) -> DictConfig:
    """Return the settings of an option over those of the options of its group that it starts from.
    Search ``roots``, or :func:`conf_dir`. Raise a DdistError for an unknown name."""
    roots = roots or [conf_dir()]
    for root in roots:
        if (root / group / f"{name}.yaml").is_file():
            text = (root / group / f"{name}.yaml").read_text()
            option = DictConfig(OmegaConf.create(text))
            above = [start for start in option.pop("defaults", ()) if isinstance(start, str)]
            if text.startswith("# @package _global_"):
                option = DictConfig(option.get(group) or {})
            starts = [read_option(group, start, roots) for start in above if start != "_self_"]
            return DictConfig(OmegaConf.merge(*starts, option))
    known = sorted({file.stem for root in roots for file in (root / group).glob("[!_]*.yaml")})
    near = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise DdistError(f"Unknown {group} {name!r}{hint}: choose one of {', '.join(known)}.")


def learned_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that change what is learned, as plain values."""
    return learned(to_plain(cfg))


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the old and the new value of each setting that differs, by its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        changed: dict[str, tuple[Any, Any]] = {}
        for key in sorted(old.keys() | new.keys()):
            changed |= differences(old.get(key), new.get(key), f"{prefix}{key}.")
        return changed
    return {} if old == new else {prefix[:-1]: (old, new)}


def with_settings(cfg: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """Return a copy of ``cfg`` with other ``settings``, by their dotted names, whole."""
    other = cfg.copy()
    for name, value in settings.items():
        OmegaConf.update(other, name, value, merge=False)
    return other


def to_plain(cfg: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """Return the config as plain dicts and lists; interpolations stay unless ``resolve``."""
    plain = OmegaConf.to_container(cfg, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
