"""The recipe of a method and a dataset is taken by itself, and its groups with it."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ddist.tasks.config import conf_dir, register_resolvers

pytestmark = pytest.mark.slow  # each composes, builds or trains


def composed(*words: str, hydra: bool = False) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(words), return_hydra_config=hydra)


@pytest.mark.parametrize(
    ("words", "recipe", "protocol", "width"),
    [
        ("method=frepo dataset=cifar10", "frepo/cifar10", "frepo", [128, 256, 512]),
        ("method=frepo dataset=imagefolder", None, "short", "auto"),
        ("method=frepo dataset=cifar10 recipe=null", None, "short", "auto"),
        ("method=frepo dataset=imagefolder recipe=frepo/cifar10", "frepo/cifar10", "frepo",
         [128, 256, 512]),
        ("method=mtt dataset=cifar10 evaluation=dc2021", "mtt/cifar10", "dc2021", "auto"),
        ("method=tesla dataset=cifar100", "tesla/cifar100", "mtt", "auto"),
    ],
)  # fmt: skip
def test_it_chooses_protocol_and_network(
    words: str, recipe: str | None, protocol: str, width: object
) -> None:
    cfg = composed(*words.split())
    assert (cfg.recipe, cfg.evaluation.name, cfg.network.width) == (recipe, protocol, width)


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ("method=dm dataset=mnist budget=5m", None),
        ("method=dm dataset=mnist budget=5m recipe=dm/mnist", "dm/mnist"),
        ("method=dm dataset=mnist budget=null", "dm/mnist"),
        ("method=dm dataset=mnist budget=auto", "dm/mnist"),
        ("experiment=laptop/mtt dataset=cifar10 budget=5m", "mtt/cifar10"),
        ("dataset=mnist budget=5m", "dd/mnist"),
        ("budget=5m", "dd/digits"),
        ("dataset=tiny_imagenet budget=5m", None),
    ],
)
def test_a_time_is_no_papers(words: str, recipe: str | None) -> None:
    cfg = composed(*words.split())
    assert cfg.recipe == recipe
    if "tiny_imagenet" in words:
        assert cfg.method._target_ == "ddist.methods.DM"


def test_it_is_no_word_of_the_command_line() -> None:
    hydra = composed("method=dm", "dataset=mnist", "ipc=3", hydra=True).hydra
    assert list(hydra.overrides.task) == ["method=dm", "dataset=mnist", "ipc=3"]
    assert "recipe" not in hydra.job.override_dirname
    assert hydra.runtime.choices["recipe"] == "dm/mnist"


def test_a_command_without_a_method_takes_what_fits_the_data() -> None:
    assert composed().method._target_ == "ddist.methods.DD"
    assert (
        composed("dataset=mnist").method._target_ == "ddist.methods.DD"
    )  # which it has a recipe for
    for dataset in ("imagefolder", "arrays", "svhn"):
        assert composed(f"dataset={dataset}").method._target_ == "ddist.methods.DM"
    cfg = composed("dataset=tiny_imagenet")
    assert (cfg.method._target_, cfg.recipe) == ("ddist.methods.DM", "dm/tiny_imagenet")


def test_presets_start_from_the_paper_on_any_of_their_datasets() -> None:
    cfg = composed("experiment=laptop/mtt", "dataset=mnist")
    assert cfg.recipe == "mtt/_paper" and cfg.method.optimizer.momentum == 0.5
    assert composed("experiment=laptop/mtt", "dataset=cifar10").recipe == "mtt/cifar10"


def test_settings_that_are_no_papers_within_a_time_are_said(ddist: Any) -> None:
    words = "method=dm", "dataset=mnist", "budget=5m", "dataset.download=false", "paths.data=none"
    assert "any data (recipe=dm/mnist for the paper's)" in ddist(*words).out
    assert "for the paper's" not in ddist(*words, "recipe=null").out
    assert "for the paper's" not in ddist("method=m3d", *words[1:]).out


def test_a_recipe_of_ones_own_within_a_time_is_said_too(ddist: Any) -> None:
    words = "method=dm", "dataset=usps", "budget=5m", "dataset.download=false", "paths.data=none"
    file = ddist.folder / "conf" / "recipe" / "dm" / "usps.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nsteps: 3\n")
    assert "(recipe=dm/usps for the paper's)" in ddist("--config-dir=conf", *words).out
    assert "for the paper's" not in ddist(*words).out
