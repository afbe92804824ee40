"""Every preset composes, and each row of its tables is that of the runs it names."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from ddist.tasks.config import conf_dir, from_row, option_names
from tests.test_recipes import composed, header, name, settings

pytestmark = pytest.mark.slow

FOLDER = conf_dir() / "experiment"
PRESETS = sorted(FOLDER.rglob("[!_]*.yaml"))
Row = dict[str, Any]


def option(preset: Path) -> str:
    """The command-line word that picks up a preset."""
    return f"experiment={preset.relative_to(FOLDER).with_suffix('')}"


def tables(preset: dict[str, Any] | list[Row] | None) -> dict[str, list[Row]]:
    """The rows of each table, by the name that ``row`` takes."""
    if isinstance(preset, dict):
        return {f"preset.{key}": each for key, each in preset.items() if isinstance(each, list)}
    return {"preset": preset} if preset else {}


def columns(row: Row) -> set[str]:
    return {key for key in row if key not in ("dataset", "ipc") and "." not in key}


def chosen_by(row: Row, cfg: DictConfig) -> list[str]:
    """The words of the run that a row is for, which ``cfg`` does not say already."""
    words = [f"{key}={value}" for key, value in row.items() if key == "ipc" or "." in key]
    if "dataset" in row:
        group = row["dataset"] in option_names("dataset")
        words.append(f"{'dataset' if group else 'dataset.name'}={row['dataset']}")
        if group and cfg.hydra.runtime.choices.dataset == row["dataset"]:
            words.pop()
    return [w for w in words if str(OmegaConf.select(cfg, w.split("=")[0])) != w.split("=")[1]]


@pytest.mark.docs
@pytest.mark.parametrize("preset", PRESETS, ids=name)
def test_a_preset_states_its_time_and_accuracy(preset: Path) -> None:
    text = header(preset)
    assert re.search(r"\d ?(s|min|h|seconds|minutes?|hours?)\b", text)
    assert "see docs/" in text if preset.parent.name == "laptop" else "%" in text


@pytest.mark.parametrize("preset", PRESETS, ids=name)
def test_a_preset_is_that_of_its_first_row_and_the_command_line_wins(preset: Path) -> None:
    cfg = composed(option(preset))
    typed = (option(preset), "steps=7")
    assert composed(*typed).steps == 7 != cfg.steps
    assert settings(*typed) != settings("steps=7")
    method = cfg.hydra.runtime.choices.method
    assert preset.parent.name == "paper" or preset.stem.split("_")[0] == method
    for rows in tables(OmegaConf.to_container(cfg).get("preset")).values():
        assert settings(option(preset)) == settings(option(preset), *chosen_by(rows[0], cfg))


@pytest.mark.parametrize("preset", PRESETS, ids=name)
def test_all_columns_of_a_preset_are_used_and_each_row_by_its_runs(preset: Path) -> None:
    text = preset.read_text()
    for table, rows in tables(OmegaConf.to_container(OmegaConf.load(preset)).get("preset")).items():
        assert columns(rows[0]) == set(re.findall(rf"\$\{{row:(\w+),{re.escape(table)}\}}", text))
        for number, row in enumerate(rows):
            assert columns(row) == columns(rows[0])
            cfg = composed(option(preset), *chosen_by(row, composed(option(preset))))
            for column in columns(row):
                expected = OmegaConf.select(cfg, table)[number][column]
                assert from_row(column, table, _root_=cfg) == expected


USPS = "dataset=usps init.source=usps"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("experiment=laptop/dm dataset=svhn",
         "There are no settings for dataset=svhn in this preset: choose one of dataset=mnist, "
         "dataset=fashion_mnist, dataset=cifar10."),
        ("experiment=laptop/dd_adaptation dataset=usps",
         f"There are no settings for {USPS} in this preset: choose one of dataset=mnist init"),
        ("experiment=laptop/dm_fashion_mnist_ipc10",
         "experiment=laptop/dm_fashion_mnist_ipc10 is now experiment=laptop/dm "
         "dataset=fashion_mnist ipc=10."),
        ("experiment=paper/dd_svhn_mnist_fixed_ipc10",
         "experiment=paper/dd_svhn_mnist_fixed_ipc10 is now experiment=paper/dd_adaptation "
         "init.source=svhn dataset.channels=3 init.fixed=true."),
        ("experiment=laptop/dn",
         "Unknown experiment 'laptop/dn' (did you mean laptop/dm?): choose one of laptop/cafe, "),
    ],
)  # fmt: skip
def test_what_a_preset_has_not_is_said(ddist: Any, words: str, said: str) -> None:
    done = ddist(*words.split())
    assert (done.code, done.err.startswith(f"ddist: {said}")) == (1, True), done.err
