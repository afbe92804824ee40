"""Every recipe composes, names its source, and its tables give what they say."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ddist.cli.sources import keys
from ddist.tasks.config import borrowed_ipcs, conf_dir, option_names, register_resolvers
from ddist.tasks.recipes import PAPER, recipes

pytestmark = pytest.mark.slow

CONF = conf_dir()
RECIPES = [each[1:] for each in recipes(CONF / "recipe")]  # (method, dataset, settings)
NAMES = [f"{method}/{dataset}" for method, dataset, _ in RECIPES]
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


def settings(*overrides: str, **single: Any) -> dict[str, Any]:
    """What is learned, and how, with every interpolation resolved; ``single`` settings are as if
    they had been typed, which composing again would take long for."""
    cfg = composed(*overrides)
    if single:
        cfg = OmegaConf.merge(cfg, single)  # type: ignore[assignment]
    resolved = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in GROUPS}
    return resolved | {"steps": cfg.steps, "ipc": cfg.ipc}


def name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def header(file: Path) -> str:
    """The comment lines of a file."""
    return "\n".join(line for line in file.read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_by_itself(method: str) -> None:
    alone = settings(f"method={method}")
    assert alone["method"]["_target_"].startswith("ddist.methods.") and alone["steps"] >= 0


@pytest.mark.parametrize(("method", "dataset", "own"), RECIPES, ids=NAMES)
def test_every_recipe_composes_and_says_something_and_the_command_line_wins(
    method: str, dataset: str, own: dict[str, Any]
) -> None:
    usual = {PAPER: "svhn", "imagenet1k": "imagefolder"}
    chosen = [f"method={method}", f"dataset={usual.get(dataset, dataset)}"]
    recipe = [f"recipe={method}/{dataset}"] if dataset in usual else []
    words, without = (*chosen, *recipe), (*chosen, "recipe=null")
    typed = settings(*words, "ipc=10", "steps=7")
    assert (typed["ipc"], typed["steps"]) == (10, 7)
    assert composed(*words).recipe == f"{method}/{dataset}"
    assert settings(*words, ipc=10)["steps"] > 0
    other_steps = "steps" in own and composed(*words).steps != composed(*without).steps
    assert other_steps or any(
        settings(*words, ipc=ipc, steps=7) != settings(*without, ipc=ipc, steps=7)
        for ipc in (10, 100, 1)  # a table by ipc may have the method's own value at one of them
    )


def test_null_is_no_recipe() -> None:
    words = ("method=dm", "dataset=cifar10")
    assert composed(*words).recipe == "dm/cifar10"
    assert composed(*words, "recipe=null").recipe is None
    assert settings(*words, "recipe=null") == settings(*words, "~recipe")


@pytest.mark.parametrize(("method", "dataset", "own"), RECIPES, ids=NAMES)
def test_a_recipe_belongs_to_a_method_and_a_dataset(
    method: str, dataset: str, own: dict[str, Any]
) -> None:
    assert (CONF / "method" / f"{method}.yaml").is_file()
    by_name = dataset in (PAPER, "imagenet1k")  # no dataset's: recipe=… alone chooses them
    assert by_name or (CONF / "dataset" / f"{dataset}.yaml").is_file()
    assert NAMES.count(f"{method}/{dataset}") == 1


@pytest.mark.docs
@pytest.mark.parametrize("file", sorted((CONF / "recipe").glob("*.yaml")), ids=name)
def test_a_recipe_names_its_source(file: Path) -> None:
    """A paper or a repository, which is that of ``_paper`` where it does not say; or it says that
    nothing is published."""
    text = file.read_text()
    root, lines = yaml.compose(text), text.splitlines()
    assert isinstance(root, yaml.MappingNode)
    starts = {place: line for place, line in keys(root) if place.count(".") <= 1}
    ends = [*list(starts.values())[1:], len(lines)]
    own = {
        place: "\n".join(lines[start:end])
        for (place, start), end in zip(starts.items(), ends, strict=True)
    }
    for place in own:
        method = place.partition(".")[0]
        said = lines[starts[method]] + own[place] + own.get(f"{method}.{PAPER}", "")
        published = re.search(r"arXiv [\d.]{10}|github\.com/", said)
        assert "." not in place or published or "No published setting" in said, place


TABLES = [
    (n, own["by_ipc"]) for n, (*_, own) in zip(NAMES, RECIPES, strict=True) if "by_ipc" in own
]
TABLES += [(f.stem, OmegaConf.load(f).by_ipc) for f in METHOD_FILES if "by_ipc:" in f.read_text()]


@pytest.mark.parametrize("rows", [rows for _, rows in TABLES], ids=[name for name, _ in TABLES])
def test_every_row_of_a_table_has_all_of_its_columns(rows: list[dict[str, Any]]) -> None:
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert len({row["ipc"] for row in rows}) == len(rows)


@pytest.mark.parametrize(("method", "dataset", "own"), RECIPES, ids=NAMES)
def test_numbers_of_a_recipe_are_numbers(method: str, dataset: str, own: dict[str, Any]) -> None:
    """YAML 1.1 takes 1e-7 for a word, and what reads recipes is not OmegaConf's reader."""
    read = OmegaConf.create(yaml.safe_dump(own))
    assert OmegaConf.to_container(read, resolve=False) == own


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
