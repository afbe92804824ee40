"""Where progress bars are drawn: on the console, in a terminal and in a notebook."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

import rich
from rich.console import Console

_OWN: ContextVar[Console | None] = ContextVar("console of bars", default=None)


def bar_console() -> Console | None:
    """Return the console that bars are drawn on; None where it has no place for what moves."""
    console = _OWN.get() or rich.get_console()
    if console.quiet:
        return None
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    return console if console.is_terminal or in_notebook else None


@contextmanager
def bars_alone() -> Iterator[None]:
    """Within the block nothing is printed on the console but bars."""
    shared, token = rich.get_console(), _OWN.set(Console())
    quiet, shared.quiet = shared.quiet, True
    try:
        yield
    finally:
        shared.quiet = quiet
        _OWN.reset(token)
