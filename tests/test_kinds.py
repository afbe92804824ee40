"""Settings of a kind that nothing takes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.utils import get_object

from ddist.config import composed_apart, conf_dir, register_resolvers, to_plain
from ddist.errors import DdistError
from ddist.kinds import annotations, check_kinds, misfit
from ddist.suggestions import known_groups

OPTIONS = [
    f"{group}={file.stem}"
    for group in sorted(known_groups() - {"experiment", "recipe", "sweep", "task"})
    for file in sorted((conf_dir() / group).glob("*.yaml"))
]


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        (1, int, ""), (True, int, "a whole number"), (1.0, int, "a whole number"),
        (1, float, ""), ("x", float, "a finite number"), (float("nan"), float, "a finite number"),
        (2**63 - 1, float, ""), (-(2**63), float, "a number of fewer digits"),
        (10**30, int | None, "a number of fewer digits"),
        (float("inf"), float | None, "a finite number or null"), (None, int | None, ""),
        ([1, 2], Sequence[int], ""), ([1, "x"], Sequence[int], "a list of numbers"),
        ("ab", Sequence[str], "a list of words"), (3, int | Sequence[int], ""),
        ({"a": 1}, Mapping[str, float], ""), (2, Mapping[str, float], "a mapping such as {a: 1}"),
        ("b", Literal["a", "b"], ""), ("c", Literal["a", "b"] | None, "null or one of a, b"),
        ("x", str | Path, ""), (3, Any, ""), (2, Callable[[int], int], "what a _target_ makes"),
        ("word", Callable[[int], int] | None, "null or what a _target_ makes"),
        ({"_target_": "x"}, Callable[[int], int], ""), (None, Callable[[int], int] | None, ""),
    ],
)  # fmt: skip
def test_misfit(value: object, expected: object, said: str) -> None:
    assert misfit(value, expected) == said


def test_options_that_are_passed_on_are_known_too() -> None:
    known = annotations("ddist.methods.MTT")
    assert known["student_steps"] is int  # its own
    assert known["ema"] == float | None  # of every method
    assert get_object("ddist.methods.MTT")


def test_the_place_and_the_value_are_named() -> None:
    target = {"_target_": "ddist.networks.MLP", "activation": "relu"}
    with pytest.raises(DdistError, match=r"network.widths is a list of numbers, not 64\."):
        check_kinds({"network": target | {"widths": 64}})
    check_kinds({"network": target | {"widths": [64]}})
    with pytest.raises(DdistError, match=r"^resume is true or false, not 3\.$"):
        check_kinds({"resume": 3})


@pytest.mark.parametrize("option", OPTIONS)
def test_the_defaults_are_of_their_kinds(option: str) -> None:
    register_resolvers()
    cfg = composed_apart([option, "paths.run=x"])
    del cfg.callbacks, cfg.logger  # of a running command
    check_kinds(to_plain(cfg))
