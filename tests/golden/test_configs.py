"""What every method × dataset and every preset composes to is what it was, key by key."""

import os
from itertools import pairwise

import pytest

from ddist.settings.auto import AUTO, PUBLISHED_WIDTH
from ddist.tasks.adapt import is_own
from tests.golden.configs import (
    Flat,
    added,
    expected,
    has_own_settings,
    is_within,
    load,
    settings,
    words_today,
)

pytestmark = pytest.mark.slow

GOLDEN = load()
# Composing all of them takes minutes: a spread of them is taken unless DDIST_GOLDEN=all.
EVERY = 1 if os.environ.get("DDIST_GOLDEN") == "all" else 11
COMPARED = [words for words in sorted(GOLDEN) if not has_own_settings(words)]
FIRST = {words.split()[0]: words for words in reversed(COMPARED) if words[:7] == "method="}
CHOSEN = sorted({*COMPARED[::EVERY], *FIRST.values()})


@pytest.mark.parametrize("words", CHOSEN)
def test_a_command_line_composes_to_the_same_settings(words: str) -> None:
    today, golden = settings(words_today(words)), expected(words, GOLDEN[words])
    if today.get("network.width") == AUTO and is_the_fields(today):
        today["network.width"] = PUBLISHED_WIDTH
    # What follows the data is filled in once that is there (tests/tasks/test_adapt.py).
    auto = [name for name, value in today.items() if value == AUTO]
    for flat in (today, golden):
        for name in [name for name in flat if is_within(name, [*added(), *auto])]:
            del flat[name]
    assert _lines(today) == _lines(golden)


def is_the_fields(settings: Flat) -> bool:
    return not is_own(settings["dataset.source._target_"])


def _lines(flat: Flat) -> list[str]:
    """Return lines that pytest shows the difference of."""
    return [f"{name}: {value!r}" for name, value in sorted(flat.items())]


def test_the_chosen_are_spread_over_all_methods() -> None:
    methods = {words.split()[0] for words in CHOSEN if words.startswith("method=")}
    assert methods == {
        words.split()[0]
        for words in GOLDEN
        if words.startswith("method=") and not has_own_settings(words)
    }
    assert all(first < second for first, second in pairwise(CHOSEN))
