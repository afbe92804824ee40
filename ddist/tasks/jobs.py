"""The jobs of a sweep, and the note in the folder of each that tells why it is not done."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ddist.compare.files import FAILURE
from ddist.storage.atomic import write_file_whole

UNFINISHED = "It did not finish."


def is_job() -> bool:
    """Tell whether this is within a job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def note_failure(job: Path, sentence: str = UNFINISHED) -> None:
    """Write to a job's folder why it has no results: the end of the sweep looks there, whatever
    process it is in."""
    write_file_whole(job / FAILURE, f"{sentence}\n".encode())


def note_success(job: Path) -> None:
    (job / FAILURE).unlink(missing_ok=True)
