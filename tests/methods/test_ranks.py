"""What is random in an outer step, for every method of conf/method: other ranks draw other numbers
from each of its streams, and so do the batches whose gradients are accumulated.

pytestmark = pytest.mark.slow  # each composes, builds or trains

All random numbers come from :func:`ddist.seeding.derive`. Here it hands a second run the numbers of
the first one again, but for a single stream: with none the runs are equal, and with it they differ.
"""

from collections.abc import Callable
from typing import Any

import pytest

import ddist.seeding
from ddist.tasks.config import option_names
from tests.methods.every import METHODS, Run

SAME_ON_ALL_RANKS = {
    "cafe": {"query"},  # by which students are watched
    "clp": {"fixed"},  # the network, which stays as it is
    "lgm": {"fixed"},
    "sre2l": {"teacher"},  # images that it is tried on, once
}


def drawn(name: str, streams: "Streams") -> set[str]:
    """The streams that an answer came from; a loader that gives no images asks all the same."""
    return streams.seen.keys() - ({"real"} - METHODS[name][1])


class Streams:
    """Takes the place of :func:`ddist.seeding.derive`: ``seen`` are its answers by stream; those of
    ``again`` are given once more, but for the stream ``free``."""

    def __init__(self, again: dict[str, list[int]] | None = None, free: str = "") -> None:
        self.seen: dict[str, list[int]] = {}
        self.again = {name: list(values) for name, values in (again or {}).items() if name != free}

    def __call__(self, seed: int, *keys: int | str) -> int:
        name = str(keys[0])
        left = self.again.get(name)
        value = left.pop(0) if left else DERIVE(seed, *keys)
        self.seen.setdefault(name, []).append(value)
        return value


DERIVE = ddist.seeding.derive


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Streams], Streams]:
    def put(streams: Streams) -> Streams:
        monkeypatch.setattr(ddist.seeding, "derive", streams)
        return streams

    return put


def test_every_method_that_learns_is_here() -> None:
    files = set(option_names("method"))
    chosen_once = {"random", "average", "kmeans", "optimized_random", "herding", "kcenter",
                   "kmeans_embedding", "rded", "ddoq", "d4m"}  # fmt: skip
    assert files - chosen_once == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_other_ranks_draw_other_numbers(name: str, make_every: Any, use: Any) -> None:
    build = make_every(name)
    _, streams, _ = METHODS[name]

    def losses(rank: int, answers: Streams) -> list[float]:
        run = Run(build, rank)
        use(answers)
        return run.losses()

    first = Streams()
    expected = losses(0, first)
    assert drawn(name, first) == streams | SAME_ON_ALL_RANKS.get(name, set())
    assert losses(1, Streams(first.seen)) == expected
    shared = {free for free in streams if losses(1, Streams(first.seen, free)) == expected}
    assert not shared


@pytest.mark.parametrize("name", METHODS)
def test_accumulated_batches_draw_other_numbers(name: str, make_every: Any, use: Any) -> None:
    """Both of an outer step's, but for what lives on from step to step."""
    build = make_every(name)
    _, streams, along = METHODS[name]

    def losses(free: str) -> tuple[float, float]:
        run, first = Run(build, 0, accumulated=2), Streams()
        use(first)
        one = run.loss(0)
        second = use(Streams(first.seen, free))
        other = run.loss(0, place=1)
        assert drawn(name, second) - along == streams - along
        return one, other

    one, other = losses("none")
    assert one == other
    shared = {free for free in streams - along if len(set(losses(free))) == 1}
    assert not shared
