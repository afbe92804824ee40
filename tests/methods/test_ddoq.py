"""DDOQ and D4M on the bundled digits: weights, images, and what is computed once."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from sklearn.cluster import KMeans
from torch import Tensor

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Replay
from ddist.evaluation.protocol import Context
from ddist.generative import PCA, Identity
from ddist.init import Random
from ddist.methods import DDOQ
from ddist.methods.ddoq import sample_weights
from ddist.seeding import generator
from ddist.tasks.config import conf_dir, register_resolvers, to_plain

pytestmark = pytest.mark.slow  # each composes, builds or trains


def settings(name: str, ipc: int) -> dict[str, Any]:
    """What conf/method/<name>.yaml says of the clustering."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"method={name}", f"ipc={ipc}", "generative=identity"])
    plain = to_plain(cfg.method)
    return {key: value for key, value in plain.items() if key[0] != "_" and key != "generative"}


@pytest.fixture
def make(common: dict[str, Any]) -> Callable[..., DDOQ]:
    def build(name: str = "ddoq", ipc: int = 5, **changes: Any) -> DDOQ:
        options = {"generative": Identity(), "ipc": ipc, **settings(name, ipc), **changes}
        return DDOQ(**(common | options))

    return build


def of_class(tensors: dict[str, Any], c: int) -> Tensor:
    return tensors["images"][tensors["labels"] == c]


def rows(data: RealData, c: int) -> Tensor:
    """The normalised images of a class, [N, 64]."""
    return data.normalization(data.train.x[data.train.y == c]).flatten(1)


def test_pixels_give_weighted_k_means(make: Callable[..., DDOQ], digits: RealData) -> None:
    """Each image is near the mean of the images that are nearest to it, its weight their share."""
    tensors = make(weights="mass", passes=40).tensors()
    for c in range(10):
        x, found = rows(digits, c), of_class(tensors, c).flatten(1)
        nearest = torch.cdist(x, found).argmin(1)
        counts = torch.bincount(nearest, minlength=5)
        expected = 5 * counts / len(x)
        torch.testing.assert_close(tensors["weights"][tensors["labels"] == c], expected)
        means = torch.stack([x[nearest == k].mean(0) for k in range(5)])
        assert (means - found).square().sum(1).max() < 0.05 * x.var(0).sum()
        whole = KMeans(5, n_init=1, random_state=0).fit(x.numpy()).inertia_
        assert torch.cdist(x, found).square().min(1).values.sum() < 1.15 * whole


@pytest.mark.parametrize("weights", ["mass", "sqrt"])
def test_weights_have_mean_one_in_each_class(make: Callable[..., DDOQ], weights: str) -> None:
    method = make(weights=weights)
    w = method.tensors()["weights"].view(10, 5)
    torch.testing.assert_close(w.mean(1), torch.ones(10))
    counts = torch.stack([each["counts"] for each in method.quantization]).float()
    ratio = w / (counts if weights == "mass" else counts.sqrt())
    torch.testing.assert_close(ratio, ratio[:, :1].expand(10, 5))
    assert counts.sum(1).tolist() == list(method.data.train.counts)


def test_uniform_weights_are_none_and_the_same_points(make: Callable[..., DDOQ]) -> None:
    plain, weighted = make(weights="uniform").tensors(), make().tensors()
    assert plain["weights"] is None and torch.equal(plain["images"], weighted["images"])
    assert sample_weights(torch.tensor([[4, 4], [9, 0]]), "sqrt").tolist() == [[1, 1], [2, 0]]


def test_medoids_are_different_real_images_near_the_centroids(
    make: Callable[..., DDOQ], digits: RealData
) -> None:
    centroids, medoids = make().tensors(), make(decode="medoid").tensors()
    assert torch.equal(centroids["weights"], medoids["weights"])
    for c in range(10):
        x, near = rows(digits, c), of_class(centroids, c).flatten(1)
        distances = torch.cdist(x, near)
        for k, image in enumerate(of_class(medoids, c).flatten(1)):
            (place,) = torch.nonzero((x == image).all(1)).flatten().tolist()
            assert distances[place].argmin() == k
            mine = distances[distances.argmin(1) == k, k]
            torch.testing.assert_close(distances[place, k], mine.min())


def test_components_are_decoded(make: Callable[..., DDOQ], digits: RealData) -> None:
    pair = PCA(components=10, num_images=None)
    method = make(generative=pair)
    pixels = digits.normalization.inverse(method.tensors()["images"])
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
    inside = (pixels.clamp(0, 1) > 0.01) & (pixels < 0.99)  # not clamped
    latents, classes = (
        torch.cat([q["centroids"] for q in method.quantization]),
        method.synthetic.classes,
    )
    again = pair.decode(latents, classes, generator(0))
    torch.testing.assert_close(pixels[inside], again[inside], atol=1e-5, rtol=0)


def test_the_error_is_of_the_points_and_smaller_with_weights(make: Callable[..., DDOQ]) -> None:
    method = make()
    expected = np.mean(
        [
            torch.cdist(
                torch.from_numpy(method.latents.of_class(c)[:]), method.quantization[c]["centroids"]
            ).square().min(1).values.mean().item()
            for c in range(10)
        ]
    )  # fmt: skip
    figures = method.figures()
    assert figures["quantization_error"] == pytest.approx(expected, rel=1e-4)
    assert figures["quantization_error"] < figures["quantization_error_uniform"]
    assert make(ipc=20).figures()["quantization_error"] < 0.8 * figures["quantization_error"]


def test_d4m_sees_ten_latents_of_a_prototype_at_a_time_once() -> None:
    assert settings("d4m", 5) == {
        "weights": "uniform", "decode": "decoder", "passes": 1, "batch_size": 50, "start_size": 50,
        "reassignment": 0.01,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ddoq", "d4m"])
def test_a_recipes_dimensions_are_the_autoencoders_alone(name: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = [f"method={name}", "dataset=cifar10"]
        assert compose("config", words).generative.dims == 128
        assert "dims" not in compose("config", [*words, "generative=pca"]).generative


@pytest.mark.slow
def test_weights_and_images_of_one_clustering_are_computed_once(
    make: Callable[..., DDOQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed between classes goes on with the next one."""
    import ddist.methods.ddoq as module

    expected, calls, original = make().tensors(), [], module.clvq
    for number, file in enumerate(sorted(make().latents.folder.glob("*/*.safetensors"))):
        if number >= 4:
            file.unlink()

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return original(*args, **options)

    monkeypatch.setattr(module, "clvq", counted)
    assert torch.equal(make().tensors()["images"], expected["images"])
    assert len(calls) == 6
    for changes in ({"weights": "mass"}, {"decode": "medoid"}):
        make(**changes)
    assert len(calls) == 6
    make(passes=2)
    assert len(calls) == 16


def test_ipc_shares_the_latents(make: Callable[..., DDOQ]) -> None:
    assert make(ipc=1).latents.folder == make(ipc=20).latents.folder


def test_a_run_trains_on_the_weights_and_reports_the_error(ddist: Callable[..., Any]) -> None:
    words = (
        "method=ddoq", "generative=pca", "generative.components=9", "ipc=3", "network=mlp",
        "evaluation.epochs=2", "evaluation.num_networks=2", "task.baseline=false",
    )  # fmt: skip
    done = ddist(*words, "hydra.run.dir=run")
    assert (done.code, done.err) == (0, ""), done.err
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.weights is not None and len(distilled.weights) == 30
    figures = results["figures"]
    assert 0 < figures["quantization_error"] < figures["quantization_error_uniform"]
    assert "latent W2²" in done.out and distilled.meta["figures"] == figures
    artifact = f"artifact={ddist.folder / 'run' / 'distilled'}"
    again = ddist("task=evaluate", artifact, "hydra.run.dir=again")
    assert (again.code, again.err) == (0, ""), again.err
    evaluated = json.loads((ddist.folder / "again" / "results.json").read_text())
    assert evaluated["figures"] == figures
    assert evaluated["evaluation"] == results["evaluation"]


def test_replaying_would_ignore_the_weights(
    make: Callable[..., DDOQ], make_judge: Callable[..., Replay], digits: RealData
) -> None:
    method = make(ipc=1, weights="mass")
    meta = {"dataset": "digits", "method": "ddoq", "ipc": 1, "num_classes": 10,
            "class_names": list(digits.class_names), "image_shape": [1, 8, 8]}  # fmt: skip
    distilled = DistilledDataset(
        **method.tensors(), normalization=digits.normalization.state(), meta=meta, config=""
    )
    with pytest.raises(DdistError, match="Replaying knows no weights of samples"):
        make_judge().accuracies(
            distilled, Context(digits, digits.test, method.network, Random("default", 0), 0)
        )
