"""Whether settings are of the kinds that the parts they are for take."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from inspect import isclass
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt
from hydra.utils import get_object

from ddist.errors import DdistError
from ddist.tasks.targets import find_target

LAST = ("method", "evaluation")  # hold copies of other groups, whose own names are better known
# What config.yaml itself says of groups, values that no target takes, names of what one takes (Any:
# looked at where it is made).
OWN: dict[str, Any] = {
    "paths.data": str, "paths.cache": str, "paths.run": str, "resume": bool,
    "init.source": str | None, "method.teacher": Mapping[str, Any], "teacher.network": Any,
    "method.teacher.network": Any,
    "evaluation.networks": str | list[str] | None, "evaluation.without_batch_norm": bool,
    "teacher.store": bool, "teacher.temperature": float, "teacher.top_k": int | None,
    "reference.measure": bool,
    "reference.training.num_networks": int, "reference.training.epochs": int,
    "reference.training.batch_size": int, "reference.training.lr": Annotated[float, Ge(0)],
}  # fmt: skip
KINDS = {
    int: "a whole number",
    float: "a finite number",
    str: "a word",
    Path: "a path",
    bool: "true or false",
    NoneType: "null",
}


def check_kinds(config: Mapping[str, Any]) -> None:
    """Raise a DdistError for the first value of the plain ``config`` that the function or class
    which takes it, its group's ``_target_``, does not expect by its annotations. Whatever those
    leave open is fine."""
    for place, expected in OWN.items():
        value = _at(config, place)
        if value is not _NOTHING and (wrong := misfit(value, expected)):
            raise DdistError(f"{place} is {wrong}, not {value!r}.")
    for name in sorted(config, key=lambda name: (name in LAST, name)):
        for place, value, expected in _annotated(config[name], name):
            wrong = "" if place in OWN else misfit(value, expected)
            if wrong:
                raise DdistError(f"{place} is {wrong}, not {value!r}.")


_NOTHING = object()


def _at(config: Any, place: str) -> Any:
    """The value of a dotted name; ``_NOTHING`` where there is none."""
    for name in place.split("."):
        config = config.get(name, _NOTHING) if isinstance(config, Mapping) else _NOTHING
    return config


def misfit(value: Any, expected: Any) -> str:
    """What was expected, in words, where ``value`` is of no kind that the annotation allows;
    nothing where it is."""
    allowed = alternatives(expected)
    if isinstance(value, int) and abs(value) >= 2**63:  # as much as torch's numbers hold
        return "a number of fewer digits"
    if Any in allowed or object in allowed or any(_fits(value, each) for each in allowed):
        return ""
    choices = [str(each) for kind in allowed for each in get_args(kind) if _literal(kind)]
    said = {_words(each) for each in allowed if not _literal(each)}
    if choices:
        said.add(f"one of {', '.join(dict.fromkeys(choices))}")
    return " or ".join(sorted(said))


def limits(annotation: Any) -> list[Ge | Gt | Le | Lt]:
    """The limits of a number in ``Annotated[float, Ge(0), ...]``; none of other annotations."""
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    spread = [list(each) if isinstance(each, Interval) else [each] for each in metadata]
    return [limit for each in spread for limit in each if isinstance(limit, Ge | Gt | Le | Lt)]


def bare(annotation: Any) -> Any:
    """The annotation without its limits."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def is_within(value: Any, limit: Ge | Gt | Le | Lt) -> bool:
    match limit:
        case Ge(least):
            return bool(value >= least)
        case Gt(least):
            return bool(value > least)
        case Le(most):
            return bool(value <= most)
        case Lt(most):
            return bool(value < most)


def limit_in_words(limit: Ge | Gt | Le | Lt) -> str:
    match limit:
        case Ge(least):
            return f"of at least {least}"
        case Gt(least):
            return f"above {least}"
        case Le(most):
            return f"of at most {most}"
        case Lt(most):
            return f"below {most}"


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; else the annotation alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return not misfit(value, inner[0]) and all(is_within(value, each) for each in limits(kind))
    if origin is Literal:
        return any(value is each or value == each for each in inner)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and isfinite(value)
    if kind in KINDS:
        return isinstance(value, str if kind is Path else kind)
    if isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and (len(inner) < 2 or _all(value.values(), inner[1]))
    if isclass(origin) and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and inner and ... not in inner:
            return len(value) == len(inner) and not any(map(misfit, value, inner))
        return _all(value, inner[0] if inner else Any)
    return isinstance(value, Mapping) and "_target_" in value


def _all(values: Any, member: Any) -> bool:
    return not any(misfit(each, member) for each in values)


def _literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return f"{_words(inner[0])} {' and '.join(map(limit_in_words, limits(kind)))}".strip()
    if kind in KINDS:
        return KINDS[kind]
    if isclass(origin) and issubclass(origin, Mapping):
        return "a mapping such as {a: 1}"
    if isclass(origin) and issubclass(origin, Sequence):
        members = set(map(bare, alternatives(inner[0]))) if inner else set()
        several = f"{len(inner)} " if origin is tuple and ... not in inner else ""
        if str in members:
            return f"a list of {several}words"
        return f"a list of {several}numbers" if members & {int, float} else "a list"
    return "what a _target_ makes"


def _annotated(node: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value, annotation) of all that the targets in ``node`` take."""
    if not isinstance(node, Mapping):
        return
    if not isinstance(node.get("_target_", ""), str):
        raise DdistError(f"{place}._target_ is package.module.Name, not {node['_target_']!r}.")
    hints: dict[str, Any] = {}
    if "_target_" in node:
        find_target(node["_target_"], place)
        hints = annotations(node["_target_"])
    for name, value in node.items():
        if str(name).startswith("_"):
            continue
        here = f"{place}.{name}"
        if name in hints and not (isinstance(value, Mapping) and "_target_" in value):
            yield from _members(here, value, hints[name])
            yield here, value, hints[name]
        yield from _annotated(value, here)


def _members(place: str, value: Any, annotation: Any) -> Iterator[tuple[str, Any, Any]]:
    """The same of a mapping's values, whose names say more than the mapping's."""
    for kind in alternatives(annotation):
        inner = get_args(kind)
        is_mapping = isclass(get_origin(kind)) and issubclass(get_origin(kind), Mapping)
        if is_mapping and len(inner) == 2 and isinstance(value, Mapping):
            yield from ((f"{place}.{name}", each, inner[1]) for name, each in value.items())


@cache
def annotations(target: str) -> dict[str, Any]:
    """What a function, or a class and those it passes its options on to, is annotated to take."""
    made = get_object(target)
    makers = (
        [vars(each)["__init__"] for each in reversed(made.__mro__) if "__init__" in vars(each)]
        if isclass(made)
        else [made]
    )
    found: dict[str, Any] = {}
    for maker in makers:
        try:
            found |= get_type_hints(maker, include_extras=True)
        except (NameError, TypeError):  # names that are known to type checkers alone
            continue
    return {name: each for name, each in found.items() if name != "return"}
