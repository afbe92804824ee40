"""Settings of a kind that nothing takes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Lt
from hydra.utils import get_object

from ddist.cli.suggest import known_groups
from ddist.cli.validate import annotations, check_kinds, misfit
from ddist.errors import DdistError
from ddist.tasks.config import (
    composed_apart,
    option_names,
    register_resolvers,
    to_plain,
)

RATE = Annotated[float, Ge(0)]
SHARE = Annotated[float, Interval(ge=0, le=1)]
OPTIONS = [
    f"{group}={name}"
    for group in sorted(known_groups() - {"experiment", "recipe", "sweep", "task"})
    for name in option_names(group)
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
        (0, RATE, ""), (-1, RATE, "a finite number of at least 0"),
        ("x", RATE, "a finite number of at least 0"), (1, RATE | None, ""), (None, RATE | None, ""),
        (-1.0, RATE | None, "a finite number of at least 0 or null"),
        (0, Annotated[int, Gt(0)], "a whole number above 0"), (1, Annotated[int, Gt(0)], ""),
        (0.5, Annotated[int, Gt(0)], "a whole number above 0"),
        (1, Annotated[float, Ge(0), Lt(1)], "a finite number of at least 0 and below 1"),
        (1, SHARE, ""), (2, SHARE, "a finite number of at least 0 and of at most 1"),
        ([1, -1], Sequence[RATE], "a list of numbers"),
        ({"a": -1}, Mapping[str, RATE], "a mapping such as {a: 1}"),
        ({"_target_": "x"}, Callable[[int], int], ""), (None, Callable[[int], int] | None, ""),
    ],
)  # fmt: skip
def test_misfit(value: object, expected: object, said: str) -> None:
    assert misfit(value, expected) == said


def test_options_that_are_passed_on_are_known_too() -> None:
    known = annotations("ddist.methods.MTT")
    assert known["student_steps"] is int  # its own
    assert known["ema"] == Annotated[float, Ge(0), Lt(1)] | None  # of every method
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


@pytest.mark.parametrize(
    ("target", "name", "value", "said"),
    [
        ("evaluation.KernelRegression", "ridge", -1, "a finite number of at least 0"),
        ("methods.KIP", "ridge", -1, "a finite number of at least 0"),
        ("methods.FRePo", "ridge", -1, "a finite number of at least 0"),
        ("methods.FRePo", "norm_momentum", 2, "a finite number of at least 0 and of at most 1"),
        ("methods.RaT", "student_lr", 0, "a finite number above 0"),
        ("methods.RaT", "student_momentum", 1, "a finite number of at least 0 and below 1"),
        ("methods.RaT", "clip", 0, "a finite number above 0 or null"),
        ("methods.MTT", "ema", 1, "a finite number of at least 0 and below 1 or null"),
        ("methods.MTT", "step_size", 0, "a finite number above 0 or null"),
        ("methods.DD", "step_size", -0.1, "a finite number above 0"),
        ("methods.IDC", "student_momentum", -1, "a finite number of at least 0 and below 1"),
        ("init.Pretrained", "momentum", 1, "a finite number of at least 0 and below 1"),
        ("init.Pretrained", "lr_factor", -1, "a finite number of at least 0"),
        ("experts.Trajectories", "rho", -0.1, "a finite number of at least 0"),
        ("generative.Autoencoder", "noise", 0, "a finite number above 0"),
    ],
)
def test_limits_of_single_values(target: str, name: str, value: float, said: str) -> None:
    assert get_object(f"ddist.{target}")
    with pytest.raises(DdistError) as caught:
        check_kinds({"group": {"_target_": f"ddist.{target}", name: value}})
    assert str(caught.value) == f"group.{name} is {said}, not {value}."


def rates(node: Any, place: str = "") -> Iterator[str]:
    """The dotted names of all learning rates and weight decays that are set."""
    for key, value in node.items():
        here = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping) and "_target_" not in value and key in ("lr", "weight_decay"):
            yield from (f"{here}.{name}" for name in value)
        elif isinstance(value, Mapping):
            yield from rates(value, here)
        elif key in ("lr", "student_lr", "weight_decay", "student_weight_decay"):
            yield here


def settings_at(config: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    *parents, name = place.split(".")
    for parent in parents:
        config = config[parent]
    return config, name


@pytest.mark.parametrize("method", option_names("method"))
def test_every_rate_of_every_method_is_at_least_0(method: str) -> None:
    """Also those of the method's protocol, experts, teachers and networks of its start."""
    register_resolvers()
    cfg = composed_apart(
        [f"method={method}", "paths.run=x", "init=pretrained", "generative=autoencoder"]
    )
    del cfg.callbacks, cfg.logger
    config = to_plain(cfg)
    names = list(rates(config))
    assert {"init.lr", "trajectories.lr", "generative.lr", "reference.training.lr"} <= {*names}
    check_kinds(config)
    for place in names:
        node, name = settings_at(config, place)
        before, node[name] = node[name], -1
        with pytest.raises(
            DdistError, match=rf"^{re.escape(place)} is .*(at least|above) 0.*, not -1\.$"
        ):
            check_kinds(config)
        node[name] = before
