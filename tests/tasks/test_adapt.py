"""Settings that say auto follow the data and the machine."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ddist.networks import ConvNet
from ddist.settings import auto
from ddist.settings.auto import (
    AUTO,
    CPU_OPERATIONS,
    EARLY,
    RULES,
    Facts,
    batch_real,
    budget,
    depth,
    factor,
    held_out,
    may_be_auto,
    operations,
    precision,
    real_per_class,
    width,
)
from ddist.tasks.adapt import adapted, is_own
from ddist.tasks.build import read_data
from ddist.tasks.config import conf_dir, register_resolvers

OWN = Facts(
    side=64,
    num_classes=10,
    num_images=5000,
    fewest=40,
    ipc=10,
    accelerator=False,
    own=True,
    timed=True,
    recipe=False,
    learns=True,
    least_depth=1,
    tiles=64,
    chooses=False,
    bf16=True,
)


def composed(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(words))


@pytest.mark.parametrize(
    ("side", "blocks"), [(8, 1), (16, 2), (28, 3), (32, 3), (64, 4), (96, 5), (128, 5), (224, 6)]
)
def test_depth_is_the_fields_by_the_side_and_fits_any_image(side: int, blocks: int) -> None:
    assert depth(replace(OWN, side=side)) == blocks
    ConvNet(2, (1, side, side), blocks, 4, "none", "avg", "relu")(torch.zeros(1, 1, side, side))


def test_small_images_have_as_many_blocks_as_the_method_needs() -> None:
    small = replace(OWN, side=8)
    assert depth(replace(small, least_depth=2)) == 2 > depth(small)
    assert depth(replace(OWN, least_depth=2)) == depth(OWN)


@pytest.mark.parametrize(
    "change", [{"recipe": True}, {"accelerator": True}, {"own": False, "timed": False}]
)
def test_width_is_the_papers_where_a_paper_or_an_accelerator_is(change: dict[str, Any]) -> None:
    assert width(replace(OWN, **change)) == 128 > width(OWN)
    assert width(replace(OWN, own=False)) == width(replace(OWN, timed=False)) == width(OWN)


def test_operations_are_those_of_the_network() -> None:
    counted: list[int] = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        counted.append(module.weight[0].numel() * output.numel())

    network = ConvNet(10, (3, 64, 64), depth(OWN), 32, "none", "avg", "relu")
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 3, 64, 64))
    assert operations(OWN, 32) == sum(counted)
    assert operations(OWN, width(OWN)) <= CPU_OPERATIONS < operations(OWN, 2 * width(OWN))


def test_real_images_of_a_step_are_about_as_many_whatever_the_classes() -> None:
    several = [real_per_class(replace(OWN, num_classes=n)) * n for n in (2, 5, 10, 20, 40)]
    assert max(several) == min(several)
    assert real_per_class(replace(OWN, num_classes=1000)) == 8
    assert batch_real(replace(OWN, num_images=100)) == 100 < batch_real(OWN)


@pytest.mark.parametrize(
    ("change", "tiles"),
    [({}, 2), ({"side": 63}, 1), ({"tiles": None}, 1), ({"fewest": 39}, 1), ({"ipc": 11}, 1)],
)
def test_large_pictures_share_a_stored_one_where_it_pays(
    change: dict[str, Any], tiles: int
) -> None:
    assert factor(replace(OWN, **change)) == tiles


def test_papers_compute_in_32_bits() -> None:
    assert precision(OWN) == "bf16-mixed"
    assert precision(replace(OWN, recipe=True)) == precision(replace(OWN, bf16=False)) == "32-true"


def test_only_data_without_a_recipe_has_a_time_and_held_out_images() -> None:
    assert budget(recipe=False, learns=True, steps_named=False) == "10m"
    assert budget(recipe=True, learns=True, steps_named=False) is None
    assert budget(recipe=False, learns=True, steps_named=True) is None
    assert budget(recipe=False, learns=False, steps_named=False) is None
    assert held_out(recipe=False, learns=True) is None
    assert held_out(recipe=True, learns=True) == held_out(recipe=False, learns=False) == 0.0


def test_nothing_says_auto_once_the_data_is_there(tmp_path: Any) -> None:
    words = ("dataset=digits", f"paths.cache={tmp_path}", "paths.data=.", "paths.run=.")
    cfg = composed("method=dm", *words)
    names = [name for name in RULES if AUTO in str(select(cfg, name))]
    assert {"network.depth", "network.width", "method.real_per_class"} <= set(names)
    filled, data = read_data(cfg)
    assert not [name for name in RULES if select(filled, name) == AUTO]
    assert filled.network.depth == 1 and data.per_class == filled.method.real_per_class == 32
    assert select(cfg, "network.depth") == AUTO  # what was asked for stays
    assert data.validation is not None and len(data.validation) == 137  # a tenth
    assert adapted(filled, data) is filled


def test_what_is_named_stays(tmp_path: Any) -> None:
    words = ("dataset=digits", f"paths.cache={tmp_path}", "paths.data=.", "paths.run=.")
    named = (
        "network.depth=2",
        "network.width=7",
        "dataset.validation=0",
        "trainer.precision=32-true",
    )
    filled, data = read_data(composed("method=dm", *words, *named))
    assert (filled.network.depth, filled.network.width) == (2, 7)
    assert data.validation is None and filled.trainer.precision == "32-true"


def select(cfg: DictConfig, name: str) -> Any:
    group, _, key = name.partition(".")
    return cfg[group].get(key)


def test_early_ones_have_a_place() -> None:
    cfg = composed("method=dm")
    assert cfg.budget == AUTO and cfg.dataset.validation == AUTO and set(EARLY) == {
        "budget", "dataset.validation"
    }  # fmt: skip


def test_only_settings_with_a_rule_may_say_auto() -> None:
    assert may_be_auto("network.width") and may_be_auto("teacher.network.depth")
    assert not may_be_auto("network.norm") and not may_be_auto("teacher.network.norm")


def test_the_fields_datasets_are_nobodys_own(tmp_path: Any) -> None:
    for dataset in ("mnist", "cifar10", "tiny_imagenet", "cub200", "voc_crops", "digits"):
        assert not is_own(composed(f"dataset={dataset}").dataset.source._target_), dataset
    for dataset in ("imagefolder", "arrays"):
        assert is_own(composed(f"dataset={dataset}").dataset.source._target_), dataset
    assert is_own("mine.pictures")
    words = ("dataset=digits", f"paths.cache={tmp_path}", "paths.data=.", "paths.run=.")
    filled, _ = read_data(composed("method=random", "network=convnet", *words))
    assert filled.network.width == 128  # whatever the machine: baselines stand beside papers


def test_chosen_real_images_stand_beside_what_no_paper_has_settings_for() -> None:
    assert auto.coreset(OWN) == "kmeans_embedding"
    assert auto.coreset(replace(OWN, recipe=True)) is None
    assert auto.coreset(replace(OWN, learns=False)) is None
    assert auto.coreset(replace(OWN, chooses=True)) is None
