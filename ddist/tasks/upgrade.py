"""Configs that earlier versions left in runs' folders and artifacts, as they would be today."""

from collections.abc import Mapping
from typing import Any

RENAMED_TARGETS = {"ddist.trajectories.": "ddist.experts."}
"""Beginnings of names of classes and functions: old, new."""

ADDED: tuple[tuple[str, str, Any], ...] = (
    ("synthetic", "scarce", "refuse"),
    ("dataset", "classes", None),
    ("dataset", "skip_damaged", False),
    ("dataset.source", "test_share", 0.2),
    ("dataset.source", "split_seed", 0),
    ("dataset.source", "background", "white"),
    ("dataset.source", "white", None),
    ("init", "classes", None),
    ("method", "log_step_size", False),
)
"""Settings that came later, with the value that does what was done before: where, name, value."""

TAKEN_BY = {
    "dataset.source.test_share": "folder",
    "dataset.source.split_seed": "folder",
    "dataset.source.background": "folder",
    "dataset.source.white": "folder",
    "init.classes": "source",
    "method.log_step_size": "expert_epochs",
}
"""By settings that not every option of their group has: what else such an option has."""


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain ``config`` of an earlier version with today's names, and with the settings
    that it could not have yet; whatever is of today already is left as it is."""
    upgraded: dict[str, Any] = _rename(dict(config))
    for place, name, value in ADDED:
        group: Any = upgraded
        for key in place.split("."):
            group = group.get(key) if isinstance(group, dict) else None
        if isinstance(group, dict) and TAKEN_BY.get(f"{place}.{name}", "_target_") in group:
            group.setdefault(name, value)
    return upgraded


def _rename(node: Any) -> Any:
    """Return ``node`` with the names of its targets as they are today."""
    if isinstance(node, Mapping):
        return {key: _target(v) if key == "_target_" else _rename(v) for key, v in node.items()}
    return [_rename(value) for value in node] if isinstance(node, list) else node


def _target(name: Any) -> Any:
    for old, new in RENAMED_TARGETS.items():
        if isinstance(name, str) and name.startswith(old):
            return new + name.removeprefix(old)
    return name
