"""Pictures that cannot be decoded: all of them named at once, or left out where that is wished."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddist.data.sources.listing import NUM_NAMED, name_some
from ddist.errors import DdistError
from ddist.storage.atomic import write_file_whole

log = logging.getLogger(__name__)

SKIP = ", or leave them out by dataset.skip_damaged=true"
NUM_LISTED = 200


@dataclass(frozen=True)
class Damage:
    """A picture and what is wrong with it, as the rest of a sentence about it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


def refuse_or_skip(
    damages: Sequence[Damage], num_pictures: int, skip: bool, remedy: str = SKIP
) -> None:
    """Log which of ``num_pictures`` pictures are damaged, if they are to be skipped.

    Raises:
        DdistError: they are not; names them, and what helps (``remedy``) besides mending them.
    """
    if len(damages) > NUM_NAMED:  # more than a sentence holds
        log.warning(
            "Damaged pictures:%s", "".join(f"\n  {damage}" for damage in damages[:NUM_LISTED])
        )
    named = name_some([str(damage) for damage in damages])
    if damages and skip:
        log.warning(
            "Left out %d of %d pictures, which are damaged (dataset.skip_damaged=true): %s.",
            len(damages),
            num_pictures,
            named,
        )
    elif len(damages) == 1:
        remedy = remedy.replace("them", "it")
        raise DdistError(f"The picture {named}: mend or remove it{remedy}.")
    elif damages:
        raise DdistError(
            f"{len(damages)} of {num_pictures} pictures are damaged: {named}; mend or remove "
            f"them{remedy}."
        )


def write_record(stem: Path, reasons: Mapping[int, str]) -> None:
    """Record which rows of the file of decoded pictures ``stem`` are of damaged pictures, and why.

    These rows are black and readers of the file have to know them, so a record is written before
    the file, even if no picture is damaged.
    """
    write_file_whole(_record(stem), json.dumps(reasons).encode())


def read_record(stem: Path) -> dict[int, str] | None:
    """Read what :func:`write_record` wrote; None if it is missing or unreadable."""
    try:
        content = json.loads(_record(stem).read_bytes())
        return {int(row): str(reason) for row, reason in content.items()}
    except (OSError, ValueError, AttributeError):
        return None


def _record(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.damaged.json")
