"""Suggestions of what somebody meant: the names that exist, and the words of a command line."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from ddist.tasks.config import composed_apart, conf_dir, option_names
from ddist.tasks.upgrade import words_of_preset

ALIKE, VERY_MUCH_ALIKE = 0.6, 0.8
"""Shares of letters that two names have in common."""


def near(name: str, known: Iterable[str]) -> str:
    """Return the known name most like ``name``, or an empty string: of the same group by its last
    part, or of another group with that very last part. A setting may be named by its end alone:
    ``student_step`` is near ``method.student_steps``."""
    known = sorted(known)
    group, _, last = name.rpartition(".")
    ends = {known_name.rpartition(".")[2]: known_name for known_name in known}
    if not group:
        close = difflib.get_close_matches(name, known, 1)
        return close[0] if close else _closest(name, ends, ALIKE)
    beside = {n.rpartition(".")[2]: n for n in known if n.rpartition(".")[0] == group}
    close = difflib.get_close_matches(name, known, 1, VERY_MUCH_ALIKE)  # a group that is mistyped
    return _closest(last, beside, ALIKE) or ends.get(last, "") or (close[0] if close else "")


def _closest(name: str, known: Mapping[str, str], alike: float) -> str:
    return next((known[n] for n in difflib.get_close_matches(name, known, 1, alike)), "")


def did_you_mean(name: str) -> str:
    return f" (did you mean {name}?)" if name else ""


def unknown_option(group: str, name: str, known: Sequence[str]) -> str:
    """Return a sentence for an option that is not among the ``known`` ones of its group."""
    if not known:  # Hydra lists none for folders below a group
        group, _, name = f"{group}/{name}".partition("/")
        known = option_names(group)
    if group == "experiment" and (words := words_of_preset(name)):
        return f"experiment={name} is now {words}."
    listed = f": choose one of {', '.join(known)}" if known else ""
    return f"Unknown {group} {name!r}{did_you_mean(near(name, known))}{listed}."


def known_groups() -> set[str]:
    """Return the groups that have options."""
    return {path.name for path in conf_dir().iterdir() if path.is_dir()} - {"hydra"}


def known_settings(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the default of every setting by its dotted name, once the groups are chosen as in
    ``overrides``; groups too, by their names. Nothing where that cannot be composed."""
    groups = known_groups()
    chosen = [text for text in overrides if text.split("=")[0] in groups]
    try:
        plain = OmegaConf.to_container(composed_apart(chosen), resolve=False)
    except HydraException:
        return {}
    assert isinstance(plain, dict)
    return dict(flatten({**{group: {} for group in groups}, **plain}))


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values, inner nodes too; private names (``_target_``) are left out."""
    for key, value in tree.items():
        if str(key).startswith("_"):
            continue
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")


def parse(overrides: Iterable[str], deletions: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield names and values of overrides, without sweeps; with ``deletions`` also of ``~a=1``."""
    read: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    for override in read:
        if override.is_sweep_override():
            continue
        if not override.is_delete() or (deletions and override.value() is not None):
            yield override.key_or_group, override.value()


def is_sweep(override: str) -> bool:
    """Tell whether ``override`` has several values, such as ``seed=0,1``."""
    read: list[Override] = OverridesParser.create().parse_overrides([override])
    return read[0].is_sweep_override()
