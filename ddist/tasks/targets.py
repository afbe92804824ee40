"""Functions and classes by the names that configs give."""

import difflib
import re
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from ddist.errors import DdistError, in_own_code
from ddist.settings.groups import TABLES, without


def make(config: Mapping[str, Any] | DictConfig, *values: Any, **named: Any) -> Any:
    """Call the ``_target_`` of ``config`` with its settings and with ``values``, the run's own."""
    making = maker(config)
    try:
        return making(*values, **named)
    except TypeError as error:
        if missing := re.search(r"missing \d+ required .*?: (.*)", str(error)):
            raise DdistError(
                f"{config['_target_']} takes {missing[1]}, which its YAML does not set: write a "
                "default there."
            ) from error
        raise


def maker(config: Mapping[str, Any] | DictConfig) -> partial[Any]:
    """Return the ``_target_`` of ``config`` with its settings, as plain dicts and lists, to be
    called with the rest; what is nested in the settings is made already."""
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    assert isinstance(plain, Mapping)
    settings = without(plain, {TABLES})
    made: partial[Any] = instantiate({**settings, "_partial_": True, "_convert_": "all"})
    return made


def find_target(target: str, place: str) -> Any:
    """Import what the ``_target_`` of ``place`` names. Raise a DdistError where that fails."""
    try:
        return get_object(target)
    except (Exception, SystemExit) as error:  # a module of the user's own may raise anything
        cause = error.__cause__ or error
        raise DdistError(f"{place}._target_={target} {reason(target, cause)}") from error


def reason(target: str, cause: BaseException) -> str:
    """Return how the sentence goes on for a ``target`` whose import ended with ``cause``."""
    kind = type(cause).__name__
    said = cause.msg if isinstance(cause, SyntaxError) else " ".join(str(cause).split()).rstrip(".")
    if where := in_own_code(cause):
        return f"cannot be imported: {where}: {kind}{said and f': {said}'}."
    module, _, name = target.rpartition(".")
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None) or module
        near = difflib.get_close_matches(name, vars(sys.modules[module]), 1)
        hint = f"; did you mean {module}.{near[0]}?" if near else "."
        return f"is nothing that Python can import: there is no {name!r} in {file}{hint}"
    return (
        "is nothing that Python can import: write it as package.module.Name, and add the folder of "
        f"a module of your own to PYTHONPATH ({said or kind})."
    )
