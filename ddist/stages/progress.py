"""Progress of a long stage and the time it still takes: a bar in a terminal, lines elsewhere."""

import logging
import time
from collections.abc import Callable
from types import TracebackType

from rich.errors import LiveError
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from ddist.formatting import format_duration
from ddist.stages.bars import bar_console

log = logging.getLogger(__name__)

LINE_FRACTION = 0.1
LINE_SECONDS = 60.0
LONG_SECONDS = 3600.0
SHORT = 5.0
"""Seconds that nobody minds waiting without a word, for stages that mostly take no longer."""


class Progress:
    """Within the ``with`` block :meth:`to` shows what is done: in a terminal by a bar, elsewhere by
    a line after the first unit, and then for each tenth or each minute, whichever is sooner.

    Args:
        what, unit: of the line, such as "experts" and "epochs".
        total: units of the whole stage.
        before: units that were done earlier, and took no time now.
        quiet: seconds without a word: a stage that is over by then needs none.
        shorter: a line for when the first estimate is above an hour.
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: int,
        *,
        before: int = 0,
        quiet: float = 0.0,
        shorter: str = "",
    ) -> None:
        self.what, self.unit, self.total, self.before = what, unit, total, before
        self._quiet, self._shorter = quiet, shorter
        self._started = time.monotonic()
        self._shown: tuple[int, float] | None = None  # (units done, time) of the last line
        self._bar: Bar | None = None

    def __enter__(self) -> "Progress":
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def to(self, done: int, total: int | None = None) -> None:
        """Show that so many units are done, of ``total`` where that was not known before."""
        self.total = self.total if total is None else total
        now = time.monotonic()
        if now - self._started < self._quiet:
            return
        first = self._shown is None
        seconds = (now - self._started) / max(1, done - self.before) * (self.total - done)
        text = f"{done:,}/{self.total:,} {self.unit} · {format_duration(seconds)} left"
        if first:
            self._shown = (done, now)
            self._bar = self._draw()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=self.total, text=text)
        elif first or self._due(done, now):
            self._shown = (done, now)
            log.info("%s: %s", self.what, text)
        if first and self._shorter and seconds > LONG_SECONDS:
            log.info("%s", self._shorter)

    def part(self, number: int, parts: int) -> Callable[[int, int], None]:
        """Return what takes the units done, and their total, of one of so many equal parts of the
        stage."""
        return lambda done, total: self.to(number * total + done, parts * total)

    @property
    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._started

    def _due(self, done: int, now: float) -> bool:
        assert self._shown is not None
        units, waited = done - self._shown[0], now - self._shown[1]
        return units >= LINE_FRACTION * self.total or waited >= LINE_SECONDS

    def _draw(self) -> Bar | None:
        console = bar_console()
        if console is None:
            return None
        bar = Bar(
            TextColumn(self.what),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=console,
            expand=True,
            transient=True,
        )
        bar.add_task("", total=self.total, text="")
        try:
            bar.start()
        except LiveError:  # another bar is shown, of the stage that this one is within
            return None
        return bar
