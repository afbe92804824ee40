"""Coresets: that each selection chooses what its paper says, among real images, repeatably."""

import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import ddist.init.pretrained
from ddist import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import Own, Pretrained
from ddist.inner.predict import accuracy
from ddist.inner.stacking import member
from ddist.methods import Coreset
from ddist.networks import embed
from ddist.seeding import generator
from ddist.synthetic.choose import herding, kcenter, kmeans_embedding, selection

SELECTIONS = ("herding", "kcenter", "kmeans_embedding")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "points"), dtype=torch.float64)


@pytest.fixture
def make(common: dict[str, Any]) -> Callable[..., Coreset]:
    """A coreset of the digits, by an MLP that is trained for a moment."""
    recipe = {
        "num_networks": 1,
        "num_held_out": 0,
        "fixed": True,
        "scheme": "default",
        "epochs": 5,
        "batch_size": 64,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "lr_drops": [],
        "lr_factor": 0.1,
    }

    def build(select: str, **changes: Any) -> Coreset:
        embedding = partial(Pretrained, **recipe)
        options = {"ipc": 4, "embedding": embedding, "train_per_class": 60, **common, **changes}
        return Coreset(select=select, **options)

    return build


# -- the selections ------------------------------------------------------------------------------


def greedily(features: Tensor, k: int) -> list[int]:
    """Herding as the paper's pseudo-code says it: try every image, average, compare."""
    mean = sum(features) / len(features)
    chosen: list[int] = []
    for _ in range(k):
        tried = {
            i: float((mean - torch.stack([*features[chosen], features[i]]).mean(0)).norm())
            for i in range(len(features))
            if i not in chosen
        }
        chosen.append(min(tried, key=tried.__getitem__))
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_herding_is_the_greedy_search(seed: int) -> None:
    features = draw(40, 5, seed=seed) + 3.0
    assert herding(features, 25).tolist() == greedily(features, 25)


def test_herding_comes_close_to_the_mean() -> None:
    features = draw(500, 8)
    mean = features.mean(0)
    herded = float((features[herding(features, 20)].mean(0) - mean).norm())
    drawn = [features[torch.randperm(500, generator=generator(s))[:20]].mean(0) for s in range(20)]
    assert herded < 0.2 * min(float((each - mean).norm()) for each in drawn)


def radius(features: Tensor, chosen: list[int]) -> float:
    """The largest distance of an image to the chosen one nearest to it."""
    return float(torch.cdist(features, features[chosen]).min(1).values.max())


@pytest.mark.parametrize("seed", range(4))
def test_kcenter_starts_at_the_mean_and_goes_to_the_farthest(seed: int) -> None:
    features = draw(60, 3, seed=seed)
    chosen = kcenter(features, 10).tolist()
    assert chosen[0] == int((features - features.mean(0)).norm(dim=1).argmin())
    for t in range(1, 10):
        apart = float((features[chosen[:t]] - features[chosen[t]]).norm(dim=1).min())
        assert apart == pytest.approx(radius(features, chosen[:t]))


@pytest.mark.parametrize("seed", range(4))
def test_the_radius_of_kcenter_is_at_most_twice_the_smallest(seed: int) -> None:
    features = draw(12, 2, seed=seed)
    smallest = min(radius(features, [*each]) for each in itertools.combinations(range(12), 3))
    assert smallest <= radius(features, kcenter(features, 3).tolist()) <= 2 * smallest


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_finds_the_middle_of_each_cluster(seed: int) -> None:
    centers = 100.0 * torch.eye(6, dtype=torch.float64)
    features = (centers[:, None] + draw(6, 20, 6, seed=seed)).flatten(0, 1)
    means = features.view(6, 20, 6).mean(1)
    middles = [20 * c + int(torch.cdist(means, features)[c].argmin() % 20) for c in range(6)]
    assert sorted(kmeans_embedding(features, 6, generator(seed)).tolist()) == middles


@pytest.mark.parametrize("name", SELECTIONS)
def test_indices_are_always_distinct(name: str) -> None:
    choose = selection(name, generator(0))
    # All of them; and images that are nearly the same in a few places.
    assert sorted(choose(draw(9, 2), 9).tolist()) == list(range(9))
    few = draw(3, 2).repeat(5, 1) + 1e-9 * draw(15, 2)
    chosen = choose(few, 8)
    assert chosen.dtype == torch.int64 and len(chosen.unique()) == 8


@pytest.mark.parametrize("name", SELECTIONS)
def test_identical_images_are_chosen_once_each(name: str) -> None:
    assert sorted(selection(name, generator(0))(torch.ones(4, 2), 4).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", SELECTIONS)
def test_too_few_images_are_a_sentence(name: str) -> None:
    with pytest.raises(DdistError, match="6 images cannot be chosen from 5"):
        selection(name, generator(0))(draw(5, 2), 6)


# -- the method ----------------------------------------------------------------------------------


def place(image: Tensor, data: RealData) -> tuple[int, int]:
    """(position, class) of the first training image that equals ``image``."""
    x = data.normalization(data.train.x)
    found = int(torch.nonzero((x == image).flatten(1).all(1))[0])
    return found, int(data.train.y[found])


@pytest.mark.parametrize("name", SELECTIONS)
def test_images_are_real_distinct_and_of_their_class(
    make: Callable[..., Coreset], name: str
) -> None:
    method = make(name)
    tensors = method.tensors()
    found = [place(image, method.data) for image in tensors["images"]]
    assert tensors["labels"].tolist() == [c for c in range(10) for _ in range(4)]
    assert [c for _, c in found] == tensors["labels"].tolist()
    assert len({position for position, _ in found}) == 40
    assert tensors["step_index"] is None and tensors["step_sizes"] is None


def test_a_class_is_chosen_by_its_embeddings(make: Callable[..., Coreset]) -> None:
    method = make("herding")
    data, network = method.data, method.network
    weights = method.embedding.held_out(network, 1)
    x = data.normalization(data.train.x[data.train.y == 7])
    features = embed(network, member(weights, 0), x)
    assert torch.equal(method.embeddings(7), features)
    assert torch.equal(method.tensors()["images"][28:32], x[herding(features, 4)])
    # which is that of a trained network
    assert float(accuracy(network, weights, data.batches(data.test, 500))) > 0.85


def test_embeddings_lead_to_the_logits(
    make: Callable[..., Coreset], common: dict[str, Any]
) -> None:
    method, network = make("kcenter"), common["network"]
    weights = member(method.embedding.held_out(network, 1), 0)
    x = method.data.normalization(method.data.test.x)
    logits = torch.func.functional_call(network, weights, (x,))
    head = embed(network, weights, x) @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(head, logits)


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_seed_decides(make: Callable[..., Coreset], name: str) -> None:
    first, again, other = (make(name, seed=s).tensors()["images"] for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_embedding_is_trained_once_for_all_selections(
    make: Callable[..., Coreset], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    fit = ddist.init.pretrained.fit

    def counted(network: Any, weights: Any, x: Tensor, *rest: Any, **options: Any) -> Any:
        fits.append(len(x))
        return fit(network, weights, x, *rest, **options)

    monkeypatch.setattr(ddist.init.pretrained, "fit", counted)
    for name in SELECTIONS:
        make(name)
    assert fits == [600]
    data = make("herding", train_per_class=None).data  # another network
    assert fits == [600, len(data.train)] == [600, 1352]


def test_published_weights_embed_as_they_are(make: Callable[..., Coreset]) -> None:
    def trained(**_: Any) -> None:
        raise AssertionError("nothing is to be trained")

    method = make("herding", init=Own(), embedding=trained)
    data, network = method.data, method.network
    x = data.normalization(data.train.x[data.train.y == 7])
    features = embed(network, dict(network.named_parameters()), x).detach()
    assert torch.equal(method.tensors()["images"][28:32], x[herding(features, 4)])


def test_it_neither_learns_nor_draws_from_the_global_generator(
    make: Callable[..., Coreset],
) -> None:
    before = torch.get_rng_state()
    assert not make("kmeans_embedding").learns
    assert torch.equal(torch.get_rng_state(), before)


# -- the command ---------------------------------------------------------------------------------


def test_a_run(ddist) -> None:
    done = ddist(
        "method=herding", "dataset=digits", "ipc=3", "network=mlp", "hydra.run.dir=run",
        "method.embedding.epochs=2", "evaluation.epochs=5", "evaluation.num_networks=2",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    found = json.loads((ddist.folder / "run" / "results.json").read_text())
    assert (found["method"], found["protocol"], found["steps"]) == ("herding", "dc2021", 0)
    assert found["evaluation"][0]["num_networks"] == 2 and "random" in found["baselines"]
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.step_index is None and len(distilled.images) == 30


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_networks_and_protocol_of_the_method_unless_others_are_named(ddist, name: str) -> None:
    for words, network, protocol in (
        (["dataset=mnist"], "ConvNet", "dc2021"),
        (["dataset=mnist", "network=lenet", "evaluation=replay"], "LeNet", "replay"),
    ):
        shown = ddist(f"method={name}", *words, "--cfg", "job").out
        assert f"_target_: ddist.networks.{network}\n" in shown
        assert f"name: {protocol}\n" in shown
        assert f"  select: {name}\n" in shown


def test_more_images_than_a_class_has_are_a_sentence(ddist) -> None:
    done = ddist("method=kcenter", "dataset=digits", "ipc=500", "hydra.run.dir=run")
    assert done.code == 1
    assert "500 different real images of the class 0 are needed, but digits has" in done.err


@pytest.mark.parametrize("method", ["herding", "optimized_random"])
def test_tiles_are_refused_by_one_sentence_before_anything_is_trained(
    ddist: Any, method: str
) -> None:
    done = ddist(f"method={method}", "network=mlp", "synthetic=multiformation", "paths.cache=cache")
    assert done.code == 1
    assert "This method chooses whole images, not 2x2 in each: set synthetic=pixel." in done.err
    assert not (ddist.folder / "cache").exists()
