"""Functions and classes by the names that configs give."""

from typing import Any

from hydra.utils import get_object

from ddist.errors import DdistError


def find_target(target: str, place: str) -> Any:
    """Import what the ``_target_`` of ``place`` names; a DdistError says why that is impossible."""
    try:
        return get_object(target)
    except Exception as error:  # a module of the user's own may raise anything
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        raise DdistError(
            f"{place}._target_={target} is nothing that Python can import: write it as "
            "package.module.Name, and add the folder of a module of your own to PYTHONPATH "
            f"({reason})."
        ) from error
