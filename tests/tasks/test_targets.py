"""What YAML names, called with its settings."""

from functools import partial
from typing import Any

from omegaconf import OmegaConf

from ddist.tasks.targets import make, maker


def seen(*values: Any, **settings: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return values, settings


def test_settings_are_plain_and_what_is_nested_is_made() -> None:
    inner = {"_target_": f"{__name__}.seen", "sizes": [1, 2]}
    config = OmegaConf.create(
        {"_target_": f"{__name__}.seen", "a": "${b}", "b": {"c": [3]}, "inner": inner,
         "later": {**inner, "_partial_": True}}
    )  # fmt: skip
    values, settings = make(config, 7, d=8)
    assert values == (7,) and settings["d"] == 8
    assert type(settings["a"]) is dict and settings["a"] == {"c": [3]}
    assert (
        settings["inner"] == ((), {"sizes": [1, 2]}) and type(settings["inner"][1]["sizes"]) is list
    )
    assert isinstance(settings["later"], partial)
    assert maker(config).keywords.keys() == {"a", "b", "inner", "later"}


def test_tables_are_no_settings() -> None:
    inner = {"_target_": f"{__name__}.seen", "_by_dataset_": [{"lr": 1}], "lr": 1}
    config = {"_target_": f"{__name__}.seen", "_by_dataset_": [{"lr": 1}], "inner": inner}
    assert make(config) == ((), {"inner": ((), {"lr": 1})})
