"""Compare values with annotations, and say in words what an annotation allows."""

from collections.abc import Mapping, Sequence
from inspect import isclass
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen

Limit = Ge | Gt | Le | Lt | MinLen
NAMES = {
    int: "a whole number",
    float: "a finite number",
    str: "a word",
    Path: "a path",
    bool: "true or false",
    NoneType: "null",
}


def describe_mismatch(value: Any, annotation: Any) -> str:
    """Return in words what ``annotation`` allows if ``value`` is none of that, else nothing."""
    allowed = alternatives(annotation)
    if isinstance(value, int) and abs(value) >= 2**63:  # as much as torch's numbers hold
        return "a number of fewer digits"
    if any(is_allowed(value, alternative) for alternative in allowed):
        return ""
    literals = [kind for kind in allowed if get_origin(kind) is Literal]
    words = {describe(kind) for kind in allowed if kind not in literals}
    if literals:
        choices = dict.fromkeys(str(choice) for kind in literals for choice in get_args(kind))
        words.add(f"{'one of ' if len(choices) > 1 else ''}{', '.join(choices)}")
    return " or ".join(sorted(words))


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def limits(annotation: Any) -> list[Limit]:
    """Return the limits of ``Annotated[float, Ge(0), ...]``; of other annotations none."""
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    single = [
        bound for item in metadata for bound in (item if isinstance(item, Interval) else [item])
    ]
    return [limit for limit in single if isinstance(limit, Limit)]


def is_allowed(value: Any, annotation: Any) -> bool:
    """Tell whether an annotation that is no union allows ``value``."""
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if annotation in (Any, object):
        return True
    if origin is Annotated:
        within = (is_within(value, limit) for limit in limits(annotation))
        return not describe_mismatch(value, inner[0]) and all(within)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and isfinite(value)
    if annotation in NAMES:
        return isinstance(value, str if annotation is Path else annotation)
    if is_kind(origin, Mapping):
        return isinstance(value, Mapping) and (len(inner) < 2 or are_all(value.values(), inner[1]))
    if is_kind(origin, Sequence):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and inner and ... not in inner:
            return len(value) == len(inner) and not any(map(describe_mismatch, value, inner))
        return are_all(value, inner[0] if inner else Any)
    return isinstance(value, Mapping) and "_target_" in value


def is_within(value: Any, limit: Limit) -> bool:
    match limit:
        case Ge(least):
            return bool(value >= least)
        case Gt(least):
            return bool(value > least)
        case Le(most):
            return bool(value <= most)
        case Lt(most):
            return bool(value < most)
        case MinLen(least):
            return len(value) >= least


def are_all(values: Any, annotation: Any) -> bool:
    return not any(describe_mismatch(value, annotation) for value in values)


def is_kind(origin: Any, base: type) -> bool:
    return isclass(origin) and issubclass(origin, base)


def describe(annotation: Any) -> str:
    """Return in words what an annotation that is neither a union nor a Literal allows."""
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        words = " and ".join(describe_limit(limit) for limit in limits(annotation))
        return f"{describe(inner[0])} {words}".strip()
    if annotation in NAMES:
        return NAMES[annotation]
    if is_kind(origin, Mapping):
        return "a mapping such as {a: 1}"
    if is_kind(origin, Sequence):
        several = f"{len(inner)} " if origin is tuple and ... not in inner else ""
        return f"a list of {several}{describe_members(inner[0])}" if inner else "a list"
    return "what a _target_ makes"


def describe_members(annotation: Any) -> str:
    """Return in words, in the plural, what the members of a list are."""
    options = alternatives(annotation)
    bare = {get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in options}
    words = " and ".join(describe_limit(limit) for limit in limits(annotation))
    if get_origin(annotation) is Literal:
        return f"some of {', '.join(map(str, get_args(annotation)))}"
    if str in bare:
        return "words or numbers" if int in bare else "words"
    if bare <= {int, float}:
        return f"{'whole ' if bare == {int} else ''}numbers {words}".strip()
    return "values"


def describe_limit(limit: Limit) -> str:
    match limit:
        case Ge(least):
            return f"of at least {least}"
        case Gt(least):
            return f"above {least}"
        case Le(most):
            return f"of at most {most}"
        case Lt(most):
            return f"below {most}"
        case MinLen(least):
            return f"({least} or more)"
