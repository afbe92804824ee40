"""What every method × dataset and every preset composes to is what it was, key by key."""

import os
from itertools import pairwise

import pytest

from tests.golden.configs import (
    Flat,
    added,
    expected,
    is_within,
    load,
    not_compared,
    settings,
    words_today,
)

pytestmark = pytest.mark.slow

GOLDEN = load()
# Composing all of them takes minutes: a spread of them is taken unless DDIST_GOLDEN=all.
EVERY = 1 if os.environ.get("DDIST_GOLDEN") == "all" else 11
CHOSEN = sorted(GOLDEN)[::EVERY]


@pytest.mark.parametrize("words", CHOSEN)
def test_a_command_line_composes_to_the_same_settings(words: str) -> None:
    today, golden = settings(words_today(words)), expected(words, GOLDEN[words])
    apart = [*added(), *not_compared(words)]
    today = {name: value for name, value in today.items() if not is_within(name, apart)}
    assert _lines(today) == _lines(golden)


def _lines(flat: Flat) -> list[str]:
    """Return lines that pytest shows the difference of."""
    return [f"{name}: {value!r}" for name, value in sorted(flat.items())]


def test_the_chosen_are_spread_over_all_methods() -> None:
    methods = {words.split()[0] for words in CHOSEN if words.startswith("method=")}
    assert methods == {words.split()[0] for words in GOLDEN if words.startswith("method=")}
    assert all(first < second for first, second in pairwise(CHOSEN))
