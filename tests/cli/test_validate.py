"""Settings of a type or range that nothing takes, and settings that there are not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from omegaconf import DictConfig, OmegaConf

from ddist.cli.suggest import known_groups
from ddist.cli.types import alternatives, describe_mismatch, limits
from ddist.cli.validate import check_config, signature_of, wrong_settings
from ddist.errors import DdistError
from ddist.settings.groups import KEYS
from ddist.settings.ranges import Momentum, NonNegative, PositiveInt, Share
from ddist.tasks.config import composed_apart, option_names, register_resolvers

pytestmark = pytest.mark.slow  # each composes, builds or trains

TASKS = {f"task={name}" for name in ("compare", "export", "import", "report")}
OPTIONS = [
    f"{group}={name}"
    for group in sorted(known_groups() - {"experiment", "recipe", "sweep", "logger", "callbacks"})
    for name in option_names(group)
]
USES = {"init=experts": "method=ncfm"}  # what an option needs beside it
UNLIMITED = {"synthetic.label_logit"}
FOREIGN = ("trainer.", "method.optimizer.", "method.scheduler.")


@cache
def composed(option: str) -> DictConfig:
    register_resolvers()
    words = [option, *([USES[option]] if option in USES else []), "paths.run=x"]
    cfg = composed_apart(words)
    cfg.callbacks, cfg.logger = {}, {"_target_": "builtins.dict"}  # of a running command
    return cfg


def message(cfg: DictConfig, **settings: Any) -> str:
    """What is said of ``cfg`` with ``settings``, by their dotted names."""
    changed = cfg.copy()
    for name, value in settings.items():
        OmegaConf.update(changed, name, value, force_add=True)
    try:
        check_config(changed)
    except DdistError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        (1, int, ""), (True, int, "a whole number"), (1.0, int, "a whole number"),
        (1, float, ""), ("x", float, "a finite number"), (float("nan"), float, "a finite number"),
        (2**63 - 1, float, ""), (-(2**63), float, "a number of fewer digits"),
        (10**30, int | None, "a number of fewer digits"),
        (float("inf"), float | None, "a finite number or null"), (None, int | None, ""),
        ([1, 2], Sequence[int], ""), ([1, "x"], Sequence[int], "a list of whole numbers"),
        ("ab", Sequence[str], "a list of words"), (3, int | Sequence[int], ""),
        ([1, "x"], list[int | str], ""), (3, list[int | str], "a list of words or numbers"),
        ({"a": 1}, Mapping[str, float], ""), (2, Mapping[str, float], "a mapping such as {a: 1}"),
        ("b", Literal["a", "b"], ""), ("c", Literal["a", "b"] | None, "null or one of a, b"),
        (1, Literal[1, 3], ""), (True, Literal[1, 3], "one of 1, 3"),
        (["c"], Sequence[Literal["a", "b"]], "a list of some of a, b"),
        ("x", str | Path, ""), (3, Any, ""), (2, Callable[[int], int], "what a _target_ makes"),
        ("word", Callable[[int], int] | None, "null or what a _target_ makes"),
        (0, NonNegative, ""), (-1, NonNegative, "a finite number of at least 0"),
        ("x", NonNegative, "a finite number of at least 0"), (None, NonNegative | None, ""),
        (-1.0, NonNegative | None, "a finite number of at least 0 or null"),
        (0, Annotated[int, Gt(0)], "a whole number above 0"), (1, Annotated[int, Gt(0)], ""),
        (0.5, PositiveInt, "a whole number of at least 1"),
        (1, Momentum, "a finite number of at least 0 and below 1"),
        (2, Share, "a finite number of at least 0 and of at most 1"),
        (2, Annotated[float, Interval(le=1)], "a finite number of at most 1"),
        ([1, -1], Sequence[NonNegative], "a list of numbers of at least 0"),
        ([], Annotated[Sequence[PositiveInt], MinLen(1)],
         "a list of whole numbers of at least 1 (1 or more)"),
        ({"a": -1}, Mapping[str, NonNegative], "a mapping such as {a: 1}"),
        ({"_target_": "x"}, Callable[[int], int], ""), (None, Callable[[int], int] | None, ""),
    ],
)  # fmt: skip
def test_describe_mismatch(value: object, annotation: object, words: str) -> None:
    assert describe_mismatch(value, annotation) == words


@pytest.mark.parametrize("option", OPTIONS)
def test_defaults_are_allowed(option: str) -> None:
    assert message(composed(option)) == ""


def wrong_values(annotation: Any) -> Iterator[Any]:
    """Values beyond each limit, and one of no type, that ``annotation`` has."""
    kinds = alternatives(annotation)
    for kind in kinds:
        for limit in limits(kind):
            match limit:
                case Ge(least):
                    yield least - 1
                case Gt(least):
                    yield least
                case Le(most):
                    yield most + 1
                case Lt(most):
                    yield most
                case MinLen(_):
                    yield []
    if str not in kinds:
        yield "nonsense"
    elif not {int, float} & {get_args(kind)[0] if limits(kind) else kind for kind in kinds}:
        yield 3


def annotated(
    node: Mapping[str, Any], own: Mapping[str, Any], place: str
) -> Iterator[tuple[str, Any]]:
    """The dotted name and annotation of all settings that something takes."""
    types = {**(signature_of(node["_target_"]).types if "_target_" in node else {}), **own}
    for name, value in node.items():
        here, annotation = f"{place}.{name}", types.get(name, Any)
        inner = [get_args(kind)[1:] for kind in alternatives(annotation) if is_mapping(kind)]
        if isinstance(annotation, dict):
            yield from annotated(value, annotation, here)
        elif isinstance(value, Mapping) and inner:
            yield from ((f"{here}.{key}", inner[0][-1]) for key in value)
        elif isinstance(value, Mapping):
            yield from annotated(value, {}, here)
        elif not str(name).startswith("_"):
            yield here, annotation


def is_mapping(kind: Any) -> bool:
    return isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping)


@pytest.mark.parametrize("option", OPTIONS)
def test_values_out_of_range_are_refused(option: str) -> None:
    """Every setting of every option, by its name and value."""
    group = option.split("=")[0]
    raw = OmegaConf.to_container(composed(option)[group], resolve=False)
    own = KEYS[group].settings
    for place, annotation in annotated(raw, own, group):
        for value in wrong_values(annotation) if annotation not in (Any, object) else ():
            changed = set_in(raw, place.split(".")[1:], value)
            assert [*wrong_settings(changed, changed, group, own)] == [
                f"{place} is {describe_mismatch(value, annotation)}, not {value!r}."
            ]


def set_in(node: Any, names: list[str], value: Any) -> Any:
    """``node`` with ``value`` at the place that the ``names`` lead to."""
    first, *rest = names
    return {**node, first: set_in(node[first], rest, value) if rest else value}


@pytest.mark.parametrize("option", OPTIONS)
def test_numbers_have_ranges(option: str) -> None:
    """Of all that ddist's own functions and classes take; torch and Lightning look at theirs."""
    group = option.split("=")[0]
    raw = OmegaConf.to_container(composed(option)[group], resolve=False)
    for place, annotation in annotated(raw, KEYS[group].settings, group):
        if not {int, float}.isdisjoint(alternatives(annotation)):
            assert place in UNLIMITED or place.startswith(FOREIGN)


def test_single_values_out_of_range_are_refused() -> None:
    cfg = composed("network=mlp")
    for name, key in KEYS.items():
        if name in cfg and key.type is not Any:
            for value in wrong_values(key.type):
                said = message(cfg, **{name: value})
                assert said.startswith(f"{name} is ") and said.endswith(f", not {value!r}.")


def test_every_key_of_a_config_is_known() -> None:
    for option in OPTIONS:
        assert {*composed(option)} <= {*KEYS}, option


def test_options_that_are_passed_on_are_known_too() -> None:
    found = signature_of("ddist.methods.MTT")
    assert found.types["student_steps"] == PositiveInt  # its own
    assert found.types["ema"] == Momentum | None  # of every method
    assert not found.is_open
    assert signature_of("builtins.dict").is_open


def test_unknown_settings() -> None:
    cfg = composed("method=mtt")
    assert message(cfg, **{"method.expert_epoch": 2}) == (
        "method.expert_epoch: there is no such setting of MTT; did you mean method.expert_epochs?"
    )
    assert message(cfg, **{"dataset.source.x": 2, "dataset.source.y": 2}) == (
        "dataset.source.x, dataset.source.y: there are no such settings of digits."
    )
    assert message(cfg, evaluations=2).startswith("evaluations: there is no such setting of ddist;")
    assert message(cfg, **{"reference.measured": 2}).endswith("did you mean reference.measure?")
    assert message(cfg, **{"teacher.epochs": 2}) == (
        "teacher.epochs: there is no such setting of teacher."
    )


def test_all_wrong_settings_are_named_at_once() -> None:
    assert message(composed("method=dsa"), **{"augment.flip": 3, "method.lr.images": -1}) == (
        "augment.flip is true or false, not 3. "  # and not method.augment.flip, its copy
        "method.lr.images is a finite number of at least 0, not -1."
    )


def test_what_a_run_needs() -> None:
    for name in ("evaluation", "ipc"):
        cfg = composed("network=mlp").copy()
        OmegaConf.set_struct(cfg, False)
        del cfg[name]
        with pytest.raises(DdistError, match=f"^Nothing is left of {name}, which a run needs"):
            check_config(cfg)
