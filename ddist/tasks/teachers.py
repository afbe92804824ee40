"""The teacher of a run, made from its config."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.tasks.adapt import adapted_network
from ddist.tasks.config import load_option, to_plain
from ddist.tasks.networks import build_network
from ddist.tasks.targets import make
from ddist.teachers import Committee, Teacher

FindTeacher = Callable[[], Teacher]
"""A function that returns the teacher, or raises a DdistError where there is none."""


def build_teacher(cfg: DictConfig, data: RealData) -> Teacher | None:
    """Build the teacher of ``cfg`` for ``data`` and check it; return None where there is none."""
    config = to_plain(cfg.teacher)
    for key in ("store", "temperature", "top_k"):
        config.pop(key)  # of the labels that it leaves in the artifact
    if "_target_" not in config:
        return None
    several = config.get("network")
    if isinstance(several, list):
        members = [_build_one({**config, "network": each}, cfg, data) for each in several]
        return Committee(members=members) if len(members) > 1 else members[0]
    return _build_one(config, cfg, data)


def _build_one(config: dict[str, Any], cfg: DictConfig, data: RealData) -> Teacher:
    """Build a teacher of one network from its ``config``, and check it."""
    options: dict[str, Any] = {"source": data}
    if "network" in config:
        match config.pop("network"):
            case str(name):
                described = load_option("network", name)
            case dict(settings):
                described = DictConfig(settings)
        described = adapted_network(described, cfg, data)
        trains = get_object(config["_target_"]).trains
        options["network"] = build_network(described, data, trains=trains)
    teacher: Teacher = make(config, **options)
    teacher.check()
    return teacher


def find_teacher(cfg: DictConfig, data: RealData) -> Teacher:
    """Return the teacher of ``cfg`` for ``data``. Raise a DdistError where there is none."""
    teacher = build_teacher(cfg, data)
    if teacher is None:
        raise DdistError("This run needs a teacher: choose one, such as teacher=trained.")
    return teacher


def shared_teacher(cfg: DictConfig, data: RealData) -> FindTeacher:
    """Return a function that builds the teacher at its first call and returns it at all calls."""
    return cache(partial(find_teacher, cfg, data))
