"""Errors of the libraries, said in one sentence to somebody who typed a command."""

import difflib
import errno
import re
from collections.abc import Iterator

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ddist.errors import DdistError


def explain(error: BaseException) -> str:
    """One sentence for ``error``: what is wrong and, where it is known, what to do."""
    for each in chain(error):
        if isinstance(each, DdistError):
            return str(each)
        if isinstance(each, OSError) and each.errno == errno.ENOSPC:
            return "The disk is full: make room, then repeat the command to go on from there."
        if type(each).__name__ == "OutOfMemoryError" or isinstance(each, MemoryError):
            return f"Out of memory ({first_line(each)}): try a smaller method.batch_real or ipc."
    if isinstance(error, (MissingConfigException, ConfigCompositionException)):
        return composition(error)
    if isinstance(error, OverrideParseException):
        return f"Could not read {error.override!r}: write group=option or key=value."
    if isinstance(error, MissingMandatoryValue):
        return f"A value is missing: {first_line(error)}."
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        causes = [first_line(each) for each in chain(error)]
        return f"The configuration does not work: {causes[-1]}."
    return (
        f"Internal error, {type(error).__name__}: {first_line(error)} (DDIST_DEBUG=1 shows where; "
        "please report it)."
    )


def composition(error: BaseException) -> str:
    """Unknown groups, options and keys, with the nearest known name."""
    text = str(error)
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if option:
        known = re.findall(r"^\t(\S+)$", text, re.M)
        group, name = option.groups()
        hint = f" (did you mean {near(name, known)}?)" if near(name, known) else ""
        listed = f": choose one of {', '.join(known)}" if known else ""
        return f"Unknown {group} {name!r}{hint}{listed}."
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return f"Unknown option {key.group(1)!r}: ddist --cfg job lists all of them."
    group = re.search(r"Could not override '?([^'\s.]+)'?\.?\s+No match in the defaults list", text)
    if group:
        return f"Unknown option {group.group(1)!r}: ddist --help lists the groups."
    return f"The configuration does not work: {first_line(error)}."


def near(name: str, known: list[str]) -> str:
    """The known name most like ``name``, or nothing."""
    return next(iter(difflib.get_close_matches(name, known, 1)), "")


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
