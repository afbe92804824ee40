"""Chosen real images beside a distilled set: those that the method by its name chooses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from torch import nn

from ddist.tasks.beside import coreset
from ddist.tasks.build import build_init, build_method, read_data
from ddist.tasks.config import conf_dir, register_resolvers
from tests.conftest import Command

pytestmark = pytest.mark.slow  # each composes, builds or trains

WORDS = ("dataset=digits", "network=mlp", "network.widths=[16]", "ipc=2", "evaluation=short",
         "evaluation.num_networks=2", "evaluation.epochs=40", "dataset.validation=0")  # fmt: skip


def composed(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(words))


def run(ddist: Command, name: str, *words: str) -> dict[str, Any]:
    done = ddist(*WORDS, f"hydra.run.dir={name}", *words)
    assert (done.code, done.err) == (0, ""), done.out + done.err
    results: dict[str, Any] = json.loads((ddist.folder / name / "results.json").read_text())
    return results | {"said": done.out}


@pytest.mark.parametrize("name", ["herding", "kcenter", "kmeans_embedding"])
def test_they_are_those_that_the_method_chooses(name: str, tmp_path: Path) -> None:
    few = (*WORDS, f"paths.cache={tmp_path}", f"paths.run={tmp_path}", "paths.data=.")
    beside = (f"reference.coreset.select={name}", "reference.coreset.epochs=2")
    alone = ("method.embedding.epochs=2", "method.train_per_class=null")
    own, data = read_data(composed(*few, f"method={name}", *alone))
    images = build_method(own, data, build_init(own, data)).tensors()["images"]
    assert len(images.unique(dim=0)) == 20
    cfg, data = read_data(composed(*few, "method=idc", *beside))  # whose images hold several
    chosen = coreset(cfg, data, build_init(cfg, data))
    assert chosen is not None and chosen.method == name
    assert torch.equal(chosen.images, images)
    cfg.reference.coreset.per_class = 5
    few_to_choose_from = coreset(cfg, data, build_init(cfg, data))
    assert few_to_choose_from is not None
    assert not torch.equal(few_to_choose_from.images, images)


def test_they_are_a_row_of_the_table(ddist: Command) -> None:
    words = ("reference.coreset.epochs=1", "reference.starts=[average,kmeans]")
    beside = run(ddist, "run", "method=dm", "steps=1", *words)
    assert list(beside["baselines"]) == ["random", "average", "kmeans", "coreset"]
    assert "k-means centroids" in beside["said"]
    assert "chosen real images" in beside["said"] and " of chosen ones." in beside["said"]
    own = run(ddist, "own", "method=herding", "method.embedding.epochs=1")
    assert list(own["baselines"]) == ["random"]


def test_a_paper_shows_random_images_alone(ddist: Command) -> None:
    quick = ("evaluation.epoch_grid=[1]", "evaluation.step_size_grid=[0.03]")
    done = ddist("steps=1", "evaluation.num_networks=2", *quick, "hydra.run.dir=paper")
    assert done.code == 0
    results = json.loads((ddist.folder / "paper" / "results.json").read_text())
    assert list(results["baselines"]) == ["random"]


def featureless(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.LogSigmoid())


def test_a_network_without_features_has_none_beside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = composed(*WORDS, "method=dc", "recipe=null", f"paths.cache={tmp_path}", "paths.data=.")
    cfg, data = read_data(cfg)
    with open_dict(cfg):
        cfg.network = {"_target_": f"{__name__}.featureless"}
    assert coreset(cfg, data, build_init(cfg, data)) is None
    assert "No chosen real images beside the distilled ones" in caplog.text
