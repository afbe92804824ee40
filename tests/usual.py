"""conf/'s options as tests build them: with values where a run follows its data."""

from omegaconf import DictConfig, OmegaConf

from ddist.settings.auto import AUTO
from ddist.tasks.config import read_option

# The field's ConvNet; and nothing is held out.
USUAL = {"network": {"depth": 3, "width": 128}, "dataset": {"validation": 0.0}}


def usual_option(group: str, name: str) -> DictConfig:
    """Return conf/<group>/<name>.yaml with ``USUAL`` values for what says ``auto`` in it."""
    config = read_option(group, name)
    auto = {key: value for key, value in USUAL[group].items() if config.get(key) == AUTO}
    return OmegaConf.merge(config, auto)  # type: ignore[return-value]
