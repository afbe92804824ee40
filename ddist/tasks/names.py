"""The names of a run's parts: the options chosen on the command line."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from ddist.errors import DdistError
from ddist.settings.groups import keys

GROUPS = keys(lambda key: key.named)


def chosen_names() -> dict[str, str]:
    """Return the chosen option of each group that results name."""
    choices = HydraConfig.get().runtime.choices
    return {group: choices[group] for group in GROUPS}


def option_of(group: str) -> str:
    """Return the chosen option of ``group``."""
    return str(HydraConfig.get().runtime.choices[group])


def without_network(names: dict[str, str]) -> dict[str, str]:
    """Return the ``names`` of a run in which no network takes part."""
    return {**names, "network": "none", "init": "none"}


def named(group: str) -> bool:
    """Tell whether the command line says anything about ``group`` or its settings."""
    return chosen(group) or bool(keys_set(group))


def chosen(*groups: str) -> bool:
    """Tell whether the command line chose an option of one of ``groups`` (or set that value)."""
    return any(key in groups for key in _keys())


def keys_set(group: str) -> list[str]:
    """Return the command line's settings within ``group``, e.g. ["evaluation.epochs"]."""
    return [key for key in _keys() if key.startswith(f"{group}.")]


def _keys() -> list[str]:
    return [text.lstrip("+~").split("=")[0] for text in words()]


def words() -> list[str]:
    """Return the overrides of this run as they were typed: ``HydraConfig`` would fill in the
    interpolations that they hold."""
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(typed, list)
    return [str(word) for word in typed]


def find_patterns(cfg: DictConfig) -> list[str]:
    """Return the patterns of files and folders in ``cfg.runs``. Raise a DdistError without any."""
    listed = list(cfg.runs) if isinstance(cfg.runs, ListConfig) else [cfg.runs]
    if not listed or not all(isinstance(pattern, str) and pattern for pattern in listed):
        raise DdistError(
            f"task={option_of('task')} needs the runs: runs='outputs/**', a folder, or a list of "
            "them."
        )
    return [str(pattern) for pattern in listed]
