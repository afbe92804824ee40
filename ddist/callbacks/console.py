"""Log lines on the console that share it with a live progress bar."""

import logging

import rich


class ConsoleHandler(logging.Handler):
    """Prints log records through rich's console, above the progress bar where one is live.

    Lines are not wrapped, coloured or marked up, so that a file or a pipe gets the plain text.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            rich.get_console().print(
                self.format(record), markup=False, highlight=False, soft_wrap=True
            )
        except Exception:
            self.handleError(record)
