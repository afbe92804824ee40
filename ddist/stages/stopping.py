"""Stopping on Ctrl-C (SIGINT) or SIGTERM within seconds, and saying what was kept.

Every finished piece of work is written completely or not at all. So a process may be left at any
point but within an outer step, which :class:`ddist.callbacks.Interrupt` lets finish."""

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

PATIENCE = 15.0
"""Seconds that a signal may wait for Python: one long call of a library answers to none."""

_DEFAULTS = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)

_heard = 0.0  # when Python last answered a signal, on the monotonic clock
_watched = False
_status: int | None = None  # of a process that ends without tidying up


class Interrupted(KeyboardInterrupt):
    """The signal ``number`` asked the process to stop. Its notes say what was kept."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_on_signals() -> None:
    """Have SIGINT and SIGTERM raise :class:`Interrupted` in the main thread from now on. A handler
    of somebody else (a cluster's launcher) stays as it is."""
    if threading.current_thread() is not threading.main_thread():
        return  # only there Python handles signals
    for number in SIGNALS:
        if signal.getsignal(number) in _DEFAULTS:
            signal.signal(number, _interrupt)
    _watch()


def heard() -> None:
    """Note that Python is not stuck in a library's call; each handler of a signal calls this."""
    global _heard
    _heard = time.monotonic()


def _interrupt(number: int, frame: FrameType | None) -> None:
    heard()
    raise Interrupted(number)


@contextmanager
def keeping(summary: Callable[[], str]) -> Iterator[None]:
    """Note ``summary()`` where the block is interrupted: what was finished, and how to go on, such
    as "3 of 20 networks stay in FOLDER: the same command goes on from there"."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if clause := summary():
            stop.add_note(clause)
        raise


def exit_status(stop: KeyboardInterrupt) -> int:
    """Return 128 and the signal's number."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def farewell(stop: KeyboardInterrupt) -> str:
    """Say in one sentence: which signal, what was kept, and what to do to go on."""
    name = signal.Signals(exit_status(stop) - 128).name
    notes = dict.fromkeys(getattr(stop, "__notes__", ()))  # each once, the innermost first
    if not notes:
        return f"Stopped by {name}: nothing was finished yet; the same command starts again."
    return f"Stopped by {name}: {'; '.join(notes)}."


def leave_quickly(status: int) -> None:
    """Have the process end with ``status`` once everything is done that is to be done at its exit:
    Python's own tidying up takes seconds where as much is imported."""
    global _status
    _status = status


def _end() -> None:
    if _status is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)


def _watch() -> None:
    """Have a thread end the process where a signal waits longer than ``PATIENCE`` for Python."""
    global _watched
    if _watched:
        return
    _watched = True
    atexit.register(_end)  # the first that is registered is the last that is called
    others_fd = signal.set_wakeup_fd(-1)
    if others_fd != -1:  # somebody's, who keeps it
        signal.set_wakeup_fd(others_fd)
        return
    numbers, ours = socket.socketpair()
    ours.setblocking(False)
    signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    # A fork has the same socket, and what ends it does not concern this process.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_leave_if_stuck, args=(numbers, ours), daemon=True).start()


def _leave_if_stuck(numbers: socket.socket, ours: socket.socket) -> None:
    """Read from ``numbers`` which signals come; ``ours`` is the other end, kept open."""
    while received := numbers.recv(1):
        number, came = received[0], time.monotonic()
        if number not in SIGNALS:
            continue
        while _heard < came - 1 and time.monotonic() - came < PATIENCE:
            time.sleep(0.1)
        if _heard >= came - 1:  # one that came just before was answered too
            continue
        print(
            f"ddist: Stopped by {signal.Signals(number).name} in the middle of a long "
            "computation: what was finished is kept; the same command, in the same folder, goes "
            "on from there.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(128 + number)
