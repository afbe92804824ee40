"""Every recipe composes, names its source, and its tables give what they say."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ddist.tasks.config import borrowed_ipcs, conf_dir, option_names, register_resolvers

pytestmark = pytest.mark.slow

CONF = conf_dir()
RECIPES = sorted((CONF / "recipe").rglob("*.yaml"))
METHOD_FILES = sorted((CONF / "method").glob("*.yaml"))
METHODS = option_names("method")
# What is learned and reached, without where it lies or what it looks like.
GROUPS = (
    "method", "dataset", "network", "init", "synthetic", "objective", "augment", "evaluation",
    "reference",
)  # fmt: skip


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The config of a run with these words on the command line; not to be changed."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


def settings(*overrides: str) -> dict[str, Any]:
    """What is learned, and how, with every interpolation resolved."""
    cfg = composed(*overrides)
    resolved = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in GROUPS}
    return resolved | {"steps": cfg.steps, "ipc": cfg.ipc}


def cell(recipe: Path) -> list[str]:
    """The command-line words that pick up a recipe."""
    return [f"method={recipe.parent.name}", f"dataset={recipe.stem}"]


def name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def steps_of(file: Path, ipc: int) -> int | None:
    """The outer steps that a file sets; None where it leaves them to the method."""
    own = OmegaConf.merge({"ipc": ipc, "dataset": {"name": file.stem}}, OmegaConf.load(file))
    assert own.get("steps", 1) > 0
    return own.get("steps")


def header(file: Path) -> str:
    """The comment lines of a file."""
    return "\n".join(line for line in file.read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_by_itself(method: str) -> None:
    alone = settings(f"method={method}")
    assert alone["method"]["_target_"].startswith("ddist.methods.") and alone["steps"] >= 0


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_every_recipe_composes_and_says_something_and_the_command_line_wins(recipe: Path) -> None:
    words = [*cell(recipe), "ipc=10", "steps=7"]
    with_recipe = settings(*words)
    assert (with_recipe["ipc"], with_recipe["steps"]) == (10, 7)
    own = steps_of(recipe, 10)
    other_steps = own is not None and own != composed(f"method={recipe.parent.name}").steps
    assert other_steps or any(
        settings(*words, f"ipc={ipc}") != settings(*words, f"ipc={ipc}", "~recipe")
        for ipc in (10, 100, 1)  # a table by ipc may have the method's own value at one of them
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_belongs_to_a_method_and_a_dataset(recipe: Path) -> None:
    assert (CONF / "method" / f"{recipe.parent.name}.yaml").is_file()
    assert (CONF / "dataset" / f"{recipe.stem}.yaml").is_file()
    assert recipe.read_text().startswith("# @package _global_\n")


@pytest.mark.docs
@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_names_its_source(recipe: Path) -> None:
    """A paper or a repository; or it says that nothing is published."""
    text = header(recipe)
    published = re.search(r"arXiv [\d.]{10}|github\.com/|et al\.? (19|20)\d\d", text)
    assert published or "No published setting" in text


@pytest.mark.parametrize("file", [f for f in METHOD_FILES + RECIPES if "by_ipc:" in f.read_text()])
def test_every_row_of_a_table_has_all_of_its_columns(file: Path) -> None:
    rows = OmegaConf.load(file).by_ipc
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert len({row.ipc for row in rows}) == len(rows)


@pytest.fixture
def tabled(tmp_path: Path) -> str:
    """The word that adds a folder with a recipe whose table holds 1, 10 and 50 images."""
    folder = tmp_path / "recipe" / "dd"
    folder.mkdir(parents=True)
    (folder / "svhn.yaml").write_text(
        "# @package _global_\n"
        "by_ipc: [{ipc: 50, steps: 300, lr: 0.1}, {ipc: 1, steps: 100, lr: 0.5},"
        " {ipc: 10, steps: 200, lr: 0.25}]\n"
        "steps: ${row:steps}\n"
        "method: {lr: {images: '${row:lr}'}}\n"
    )
    return f"hydra.searchpath=[file://{tmp_path}]"


@pytest.mark.parametrize(
    ("ipc", "steps", "rate", "borrowed"),
    [
        (1, 100, 0.5, set()),
        (10, 200, 0.25, set()),
        (50, 300, 0.1, set()),
        (2, 100, 0.5, {1}),
        (3, 100, 0.5, {1}),
        (4, 200, 0.25, {10}),
        (22, 200, 0.25, {10}),
        (23, 300, 0.1, {50}),
        (1000, 300, 0.1, {50}),
    ],
)
def test_a_table_gives_the_nearest_published_ipc(
    tabled: str, ipc: int, steps: int, rate: float, borrowed: set[int]
) -> None:
    words = (tabled, "method=dd", "dataset=svhn", f"ipc={ipc}")
    cfg = composed(*words)
    assert cfg.steps == steps and cfg.method.lr.images == rate
    assert borrowed_ipcs(cfg) == borrowed
    assert composed(*words, "steps=7").steps == 7
