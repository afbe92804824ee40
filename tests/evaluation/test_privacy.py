"""Distances to real images, and telling members by the loss, beside scikit-learn's and by hand."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ddist.evaluation.privacy import Losses, nearest, nearness
from ddist.init import Random
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.seeding import generator


def test_distances_are_scikit_learns() -> None:
    x, others = torch.rand(7, 3, 4, 4), torch.rand(50, 3, 4, 4)
    found = nearest(x, others.split(13))
    known, _ = NearestNeighbors(n_neighbors=1).fit(others.flatten(1)).kneighbors(x.flatten(1))
    torch.testing.assert_close(found, torch.from_numpy(known[:, 0]).double() / 48**0.5)
    assert nearest(others[:2], [others]).tolist() == [0, 0]
    assert nearest(torch.ones(1, 1, 2, 2), [torch.zeros(1, 1, 2, 2)]).item() == 1


def test_copies_are_told_from_images_of_the_same_kind() -> None:
    rng = generator(0)
    train, held_out, fresh = (torch.rand(n, 1, 3, 3, generator=rng) for n in (300, 100, 400))

    def share(images):
        distances = nearest(images, [train]), nearest(images, [held_out])
        return nearness(*distances, len(train), len(held_out))

    copied = share(train[:40] + 0.001)
    assert copied.nearest_is_train > 0.95 and copied.closest == pytest.approx(0.001, rel=1e-3)
    independent = share(fresh)
    assert independent.by_chance == 0.75
    assert independent.nearest_is_train == pytest.approx(0.75, abs=0.07)  # 3 standard errors


@pytest.fixture
def attacked(digits, network) -> Losses:
    """The losses of networks that have learned 60 images with wrong labels by heart."""
    rows = torch.randperm(len(digits.train), generator=generator(0))[:120]
    x = digits.normalization(digits.train.x[rows])
    y = torch.randint(10, (120,), generator=generator(1))
    recipe = TrainingRecipe(
        epochs=300, batch_size=60, optimizer="adam", lr=0.01, momentum=0.9, weight_decay=0.0
    )
    start = Random("default", 0).held_out(network, 2)
    trained = fit(network, start, x[:60], y[:60], recipe, generators=[generator(k) for k in (0, 1)])
    losses = Losses(network, {"in": (x[:60], y[:60]), "out": (x[60:], y[60:])})
    for k in range(2):  # in two calls
        losses({name: w[k : k + 1] for name, w in trained.items()})
    return losses


def test_what_was_learned_by_heart_is_found(attacked: Losses) -> None:
    found = attacked.membership("in", "out", [0.05])
    assert found.auc > 0.95 and found.true_positives["0.05"] > 0.8
    assert found.accuracy_members > 0.9 and found.accuracy_others < 0.3


def test_nothing_tells_halves_of_what_was_not_learned(attacked: Losses) -> None:
    for kept in (attacked.losses, attacked.right):
        kept["a"] = [values[:, ::2] for values in kept["out"]]
        kept["b"] = [values[:, 1::2] for values in kept["out"]]
    found = attacked.membership("a", "b", [0.1])
    assert found.auc == pytest.approx(0.5, abs=0.25)  # 30 of each: a standard error of 0.075
    inverse = attacked.membership("b", "a", [0.1])
    assert inverse.auc == pytest.approx(1 - found.auc)


def test_found_members_at_few_false_alarms(network) -> None:
    losses = Losses(network, {})
    losses.losses = {"in": [torch.tensor([[0.1, 0.2, 0.6, 0.9]])],
                     "out": [torch.tensor([[0.5, 0.7, 0.8, 1.0]])]}  # fmt: skip
    losses.right = {name: [torch.ones(1, 4).bool()] for name in ("in", "out")}
    found = losses.membership("in", "out", [0.0, 0.25, 0.75])
    assert found.true_positives == {"0": 0.5, "0.25": 0.75, "0.75": 1.0}
    assert found.auc == 12 / 16  # of 16 pairs, those of a smaller loss inside
