"""Work of which only the beginning is done, to know how long all of it takes.

Within ``with Pace(seconds) as pace`` loops that say so stop early, and the pace's clock goes on by
the time that the rest would have taken; loops within loops add up. Elsewhere nothing changes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")

LEAST = 3  # items after the first, which warms up

_current: "ContextVar[Pace | None]" = ContextVar("pace", default=None)


class Pace:
    """A clock that runs ahead of the machine's.

    ``seconds`` is how long a loop is watched at least. ``parts`` holds the seconds of each part
    that was named by :func:`part`, without those of parts within it; ``files`` the bytes of files
    that would have been written, by part.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.parts: dict[str, float] = {}
        self.files: dict[str, int] = {}
        self._ahead = 0.0
        self._within = [0.0]  # seconds of inner parts, at each depth
        self._token: Token[Pace | None] | None = None

    def __enter__(self) -> "Pace":
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _current.reset(self._token)

    def now(self) -> float:
        """Seconds on this clock."""
        return time.monotonic() + self._ahead

    def skip(self, seconds: float) -> None:
        """What would have taken so long is left undone."""
        self._ahead += seconds

    def add(self, name: str, seconds: float, inner: float) -> None:
        self.parts[name] = self.parts.get(name, 0.0) + seconds - inner

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = self.now()
        self._within.append(0.0)
        try:
            yield
        finally:
            spent = self.now() - started
            self.add(name, spent, self._within.pop())
            self._within[-1] += spent


def current() -> Pace | None:
    """The pace that is in force, if any."""
    return _current.get()


@contextmanager
def part(name: str) -> Iterator[None]:
    """Names what the time within the block is for."""
    pace = current()
    if pace is None:
        yield
        return
    with pace.part(name):
        yield


class Watch:
    """Looks at a loop of ``total`` items: :meth:`enough` after each says whether to leave it."""

    def __init__(self, total: int) -> None:
        self.pace, self.total, self.done = current(), total, 0
        self.stopped = False
        self._first = 0.0

    def enough(self) -> bool:
        """One more item is done. True where the rest has been skipped; never without a pace."""
        if self.pace is None:
            return False
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        self.done += 1
        now = self.pace.now()
        if self.done == 1:
            self._first = now
            return False
        spent, items = now - self._first, self.done - 1
        if items < LEAST or spent < self.pace.seconds:
            return False
        self.stopped = True
        self.pace.skip(spent / items * max(0, self.total - self.done))
        return True


def paced(items: Iterable[T], total: int) -> Iterator[T]:
    """``items``, of which there are ``total``; with a pace, the first of them."""
    watch = Watch(total)
    for item in items:
        yield item
        if watch.enough():
            return


def mapped(function: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """``function`` of each item; with a pace, of the first of them, again and again."""
    found = [function(item) for item in paced(items, len(items))]
    return [found[i % len(found)] for i in range(len(items))]
