"""The one exception that means "the user can mend this"."""

from collections.abc import Iterator
from contextlib import contextmanager


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
