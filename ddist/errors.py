"""The one exception that means "the user can mend this", and where others come from."""

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DdistError(Exception):
    """A mistake the user can mend: its text is one clear sentence that says what was expected,
    what came and what to do. The command line prints the sentence and exits with status 1."""


@contextmanager
def blaming(setting: str) -> Iterator[None]:
    """Raise a DdistError where what ``setting`` made, a class of torch's, cannot work with the
    numbers that it was given."""
    try:
        yield
    except ValueError as error:  # which torch means for its user
        raise DdistError(f"{setting} cannot work: {error}.") from error
    except (ArithmeticError, LookupError, TypeError) as error:
        raise DdistError(
            f"{setting} cannot work with what it was given: torch.optim's documentation says what "
            "each of its settings may be."
        ) from error


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what caused it, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def in_own_code(error: BaseException) -> str:
    """Return where in a module of the user's own ``error`` was raised, was on its way, or could not
    be read; nothing where no such module took part."""
    paths = sysconfig.get_paths()
    others = (
        *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parent),  # ddist itself
        str(Path(sys.argv[0]).resolve()),
        "<",  # frozen and made of text
    )
    for cause in reversed(list(chain(error))):
        if isinstance(cause, SyntaxError) and not (cause.filename or "<").startswith(others):
            return f"{cause.filename}, line {cause.lineno}"
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if not frame.filename.startswith(others):
                where = "" if frame.name == "<module>" else f", in {frame.name}"
                return f"{frame.filename}, line {frame.lineno}{where}"
    return ""
