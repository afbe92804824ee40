"""How far the experts are, and how long the rest takes."""

import logging
import time
from collections.abc import Callable

from ddist.callbacks.schedule import format_duration

log = logging.getLogger(__name__)

LINE_FRACTION = 0.1
LINE_SECONDS = 60.0
LOOK_SECONDS = 1.0
LONG_SECONDS = 3600.0


class Progress:
    """Logs a line after the first epoch, which tells the time that all of them take, and then for
    each tenth of the work or each minute, whichever is sooner.

    ``left()`` counts the epochs that are still to be trained, by whomever: processes that share the
    work see each other's.
    """

    def __init__(self, left: Callable[[], int]) -> None:
        self._left = left
        self._total = left()
        self._started = self._looked = time.monotonic()
        self._shown: tuple[int, float] | None = None  # (epochs left, time) of the last line

    def advance(self) -> None:
        """To be called after each epoch."""
        now = time.monotonic()
        # To count is to look for every file.
        if self._shown is not None and now - self._looked < LOOK_SECONDS:
            return
        left, self._looked = self._left(), now
        if self._shown is not None:
            epochs, waited = self._shown[0] - left, now - self._shown[1]
            if epochs < LINE_FRACTION * self._total and waited < LINE_SECONDS:
                return
        first, self._shown = self._shown is None, (left, now)
        done = self._total - left
        seconds = (now - self._started) / max(1, done) * left
        rest = format_duration(seconds)
        log.info("experts: %s/%s epochs · %s left", f"{done:,}", f"{self._total:,}", rest)
        if first and seconds > LONG_SECONDS:
            log.info("Fewer experts take less: trajectories.num_experts=10, for example.")

    def end(self) -> None:
        """To be called when all are there."""
        taken = format_duration(time.monotonic() - self._started)
        log.info("experts: all are there, after %s", taken)
