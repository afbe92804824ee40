"""The one exception that means "the user can mend this"."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class DdistError(Exception):
    """A mistake the user can mend: its text is one clear sentence that says what was expected,
    what came and what to do. The command line prints the sentence and exits with status 1."""


def check_whole(group: str, values: Mapping[str, object], least: int = 1) -> None:
    """Raise a DdistError for the first of a config group's ``values`` that is no whole number of
    at least ``least``; those of the group "" are single values, such as ipc."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            place = f"{group}.{name}" if group else name
            raise DdistError(f"{place} is a whole number of at least {least}, not {value!r}.")


@contextmanager
def blaming(setting: str) -> Iterator[None]:
    """Raise a DdistError where what the setting made, a class of torch's, cannot work with the
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
