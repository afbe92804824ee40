"""Check a config against the annotations of what its settings are for: of the ``_target_`` beside
them, or of the runner (ddist/settings/groups.py)."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, isclass, signature
from typing import Any, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig

from ddist.cli.types import alternatives, describe_mismatch, is_kind
from ddist.errors import DdistError
from ddist.settings.auto import AUTO, may_be_auto
from ddist.settings.groups import KEYS, keys
from ddist.tasks.config import to_plain
from ddist.tasks.targets import find_target

LIGHT = ("task", "paths")  # of the groups, what a task needs that only reads results
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Signature:
    """The arguments of a function or class: types by name, and whether it takes other names too."""

    types: Mapping[str, Any]
    is_open: bool


def check_config(cfg: DictConfig, *, light: bool = False, experiment: str = "") -> None:
    """Check the config of a run; for a ``light`` task only its own part, as importing what takes
    the rest takes seconds. ``experiment`` is the chosen one.

    Raises:
        DdistError: something that a run needs is not there, there is no such setting, or a value
            is none that the annotation allows. All wrong settings are named at once.
    """
    check_needed(cfg)
    raw = to_plain(cfg, resolve=False)
    groups = [name for name, key in KEYS.items() if key.type is Any and name not in LIGHT]
    names = [name for name in raw if not light or name not in groups]
    refuse(wrong_keys(raw, raw, names), experiment)
    refuse(wrong_keys(to_plain(cfg), raw, names), experiment)  # what has to be computed


def check_needed(cfg: DictConfig) -> None:
    """Raise a DdistError unless all that a run needs is there, where it is looked for."""
    if "published" in (cfg.get("method") or {}):
        raise DdistError(
            "method.published is no setting any more: a method's file begins with "
            "'# @package _global_' and sets steps, synthetic.start or init.scheme where they are, "
            "as conf/method/dc.yaml does."
        )
    for name in keys(lambda key: key.needed):
        if name in cfg and (KEYS[name].type is not Any or "_target_" in (cfg[name] or {})):
            continue
        if name in (cfg.get(name) or {}):
            raise DdistError(
                f"The file of this {name} has its settings under {name}: let it begin with "
                "'# @package _global_'."
            )
        raise DdistError(f"Nothing is left of {name}, which a run needs: leave ~{name} out.")


def refuse(messages: Iterator[str], experiment: str) -> None:
    """Raise a DdistError of the ``messages``, if there are any."""
    said = " ".join(messages)
    if "no such setting" in said and experiment:
        said += f" If experiment={experiment} sets it, leave its dataset and method as they are."
    if said:
        raise DdistError(said)


def wrong_keys(
    config: Mapping[str, Any], raw: Mapping[str, Any], names: Sequence[str]
) -> Iterator[str]:
    """Yield a sentence for each wrong setting of the keys ``names``; see :func:`wrong_settings`."""
    yield from say_unknown("", [name for name in names if name not in KEYS], KEYS, "ddist")
    for name in names:
        if name in KEYS and KEYS[name].type is not Any:
            yield from wrong_values(name, config[name], KEYS[name].type)
    for name in names:
        if name in KEYS:
            yield from wrong_settings(config[name], raw[name], name, KEYS[name].settings)


def wrong_settings(node: Any, raw: Any, place: str, own: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each setting of ``node`` that is not known or has a wrong value.

    Args:
        node: the values at ``place`` in the config; what has to be computed may be left uncomputed.
        raw: the same, all uncomputed. Copies of other nodes are checked where they come from.
        own: types of the runner's own settings there.
    """
    if not isinstance(node, Mapping):
        return
    raw = raw if isinstance(raw, Mapping) else node
    target = node.get("_target_", "")
    if is_uncomputed(target):
        return
    if not isinstance(target, str):
        yield f"{place}._target_ is package.module.Name, not {target!r}."
        return
    taken = Signature({}, is_open=not own)
    if target:
        find_target(target, place)
        taken = signature_of(target)
    types = {**taken.types, **own}
    unknown = []
    for name, value in node.items():
        here = f"{place}.{name}"
        if str(name).startswith("_") or is_copy(value, raw.get(name)):
            continue
        if name not in types and not taken.is_open:
            unknown.append(name)
        elif isinstance(types.get(name), dict):  # of the runner's own, in a group of their own
            yield from wrong_settings(value, raw[name], here, types[name])
        elif isinstance(value, Mapping) and "_target_" in value:
            yield from wrong_settings(value, raw[name], here, {})
        else:
            yield from wrong_values(here, value, types.get(name, Any))
            yield from wrong_settings(value, raw[name], here, {})
    yield from say_unknown(place, unknown, types, target.rpartition(".")[2] or place)


def is_copy(value: Any, raw: Any) -> bool:
    """Tell whether ``raw`` is an interpolation of another node (``${augment}``), not of a value."""
    return isinstance(value, Mapping) and isinstance(raw, str) and ":" not in raw


def is_uncomputed(value: Any) -> bool:
    return isinstance(value, str | list) and ("${" in str(value) or value == "???")


def wrong_values(place: str, value: Any, annotation: Any) -> Iterator[str]:
    """Yield a sentence for a value that ``annotation`` does not allow; in a mapping, for each."""
    for kind in alternatives(annotation):
        inner = get_args(kind)
        if is_kind(get_origin(kind), Mapping) and len(inner) == 2 and isinstance(value, Mapping):
            for name, member in value.items():
                yield from wrong_values(f"{place}.{name}", member, inner[1])
            return
    if is_uncomputed(value) or (value == AUTO and may_be_auto(place)):
        return
    mismatch = describe_mismatch(value, annotation)
    if mismatch:
        yield f"{place} is {mismatch}, not {value!r}."


def say_unknown(
    place: str, unknown: list[str], known: Mapping[str, Any], owner: str
) -> Iterator[str]:
    """Yield a sentence that ``unknown`` are no settings of ``owner``, if there are any."""
    prefix = f"{place}." if place else ""
    if len(unknown) == 1:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"; did you mean {prefix}{near[0]}?" if near else "."
        yield f"{prefix}{unknown[0]}: there is no such setting of {owner}{hint}"
    elif unknown:
        names = ", ".join(f"{prefix}{name}" for name in unknown)
        yield f"{names}: there are no such settings of {owner}."


@cache
def signature_of(target: str) -> Signature:
    """Return what a function takes, or a class and those that it hands its options on to."""
    made = get_object(target)
    makers = [made]
    if isclass(made):
        makers = [vars(base)["__init__"] for base in made.__mro__[:-1] if "__init__" in vars(base)]
    types: dict[str, Any] = {}
    for maker in makers:
        try:
            parameters = signature(maker).parameters.values()
        except (TypeError, ValueError):  # what is written in C may have no signature
            break
        hints = hints_of(maker)
        named = [
            parameter.name
            for parameter in parameters
            if parameter.kind in NAMED and parameter.name != "self"
        ]
        types = {**{name: hints.get(name, Any) for name in named}, **types}
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
            return Signature(types, is_open=False)
    return Signature(types, is_open=True)


def hints_of(maker: Any) -> dict[str, Any]:
    try:
        return get_type_hints(maker, include_extras=True)
    except (NameError, TypeError):  # names that are known to type checkers alone
        return {}
