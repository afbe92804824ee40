"""Log lines on the console that share it with a live progress bar."""

import logging
import os

import rich
from rich.console import Console


class ConsoleHandler(logging.Handler):
    """Handler that prints log records through rich's console, above the progress bar where one is
    live; errors go to standard error. Processes that share a run leave the talking to the first.

    Lines are not wrapped, coloured or marked up, so that a file or a pipe gets the plain text.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = record.levelno >= logging.ERROR
        if not error and os.environ.get("LOCAL_RANK", "0") != "0":
            return
        try:
            console = Console(stderr=True) if error else rich.get_console()
            console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)
        except Exception:
            self.handleError(record)
