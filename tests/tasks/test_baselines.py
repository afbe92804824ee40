"""What stands beside a distilled set in results.json: random real images, and networks trained on
all images, each against what it should be by itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.evaluation import Replay
from ddist.evaluation.full import train_on_all
from ddist.evaluation.protocol import Context
from ddist.init import Random
from ddist.inner.stacking import member
from ddist.networks import MLP
from ddist.objectives import Poison
from ddist.seeding import generator
from ddist.synthetic.steps import spread_over_steps
from ddist.tasks.beside import Chosen, chosen_real, of_start, random_real

IPC, STEPS, EPOCHS = 3, 2, 4


@pytest.fixture
def make_set(digits: RealData) -> Callable[..., DistilledDataset]:
    """``make_set(**changes)``: noise for 3 images per class in 2 steps, 4 times over."""

    def make(**changes: Any) -> DistilledDataset:
        labels, index = spread_over_steps(IPC, 10, STEPS)
        fields: dict[str, Any] = {
            "images": torch.randn(len(labels), 1, 8, 8, generator=generator(0, "noise")),
            "labels": labels,
            "step_index": index,
            "step_sizes": torch.rand(EPOCHS, STEPS, generator=generator(0, "sizes")),
            "normalization": digits.normalization.state(),
            "meta": {
                "dataset": "digits", "method": "dd", "ipc": IPC, "num_classes": 10,
                "class_names": digits.class_names, "image_shape": digits.image_shape,
            },
            "config": "",
        }  # fmt: skip
        return DistilledDataset(**(fields | changes))

    return make


def classes_of_images(images: Tensor, data: RealData) -> Tensor:
    """The class [N] of each image among the training images, of which each has to be one."""
    train = data.normalization(data.train.x)
    same = (images[:, None] == train[None]).flatten(2).all(2)  # [N, M]
    assert same.any(1).all()
    return data.train.y[same.int().argmax(1)]


def test_chosen_images_stand_where_the_distilled_ones_of_their_class_do(
    make_set: Callable[..., DistilledDataset], digits: RealData
) -> None:
    distilled = make_set()
    by_class = torch.cat(
        [digits.images(torch.arange(s, s + IPC)) for s in digits.train.offsets[:10]]
    )
    chosen = chosen_real(distilled, Chosen("herding", by_class))
    assert torch.equal(classes_of_images(chosen.images, digits), distilled.labels)
    assert len(chosen.images.unique(dim=0)) == len(by_class)
    assert chosen.meta["method"] == "herding" and chosen.step_sizes is None
    assert torch.equal(chosen.step_index, distilled.step_index)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_they_are_different_real_images_of_the_same_classes_in_the_same_steps(
    make_set: Any, digits: RealData, kind: str
) -> None:
    """Under hard labels, also where the set's own are soft and were learned away from its
    classes."""
    classes, index = spread_over_steps(IPC, 10, STEPS)
    soft = torch.rand(len(classes), 10, generator=generator(0, "labels")).softmax(1)
    distilled = make_set(labels=classes if kind == "hard" else soft)
    random = random_real(distilled, digits, seed=0)
    assert torch.equal(classes_of_images(random.images, digits), classes)
    assert torch.equal(random.labels, classes)
    assert len(random.images.flatten(1).unique(dim=0)) == len(random.images)
    assert random.step_index is not None and torch.equal(random.step_index, index)
    assert torch.bincount(random.step_index).tolist() == [20, 10]
    assert not torch.equal(random_real(distilled, digits, seed=1).images, random.images)


@pytest.mark.parametrize("start", ["average", "kmeans"])
def test_averages_and_centroids_stand_in_the_same_steps(
    make_set: Any, digits: RealData, start: str
) -> None:
    distilled = make_set()
    beside = of_start(start, start, distilled, digits, 0, None)
    assert torch.equal(beside.labels, distilled.labels)
    assert torch.equal(beside.step_index, distilled.step_index)
    assert beside.step_sizes is None and beside.meta["method"] == start
    for c in (0, 7):
        x = digits.normalization(digits.train.x[digits.train.y == c])
        ours = beside.images[distilled.labels == c]
        nearest = torch.cdist(x.flatten(1), ours.flatten(1)).argmin(1)
        groups = [x if start == "average" else x[nearest == k] for k in range(IPC)]
        expected = torch.stack([group.mean(0) for group in groups])
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_one_step_stays_one_step(make_set: Any, digits: RealData) -> None:
    labels = torch.arange(10).repeat_interleave(IPC)
    distilled = make_set(labels=labels, step_index=None, step_sizes=None)
    random = random_real(distilled, digits, seed=0)
    assert random.step_index is None and torch.equal(random.labels, labels)


def test_under_an_objective_images_keep_their_classes_and_get_the_labels_it_wants(
    make_set: Any, digits: RealData
) -> None:
    """The set's own labels name the target twice and the attacked class never."""
    poison = Poison(attacked=3, target=8)
    classes, _ = spread_over_steps(IPC, 10, STEPS)
    learned_for = {"objective": {"name": "poison", "attacked": 3, "target": 8}}
    distilled = make_set(labels=poison.targets(classes), meta=make_set().meta | learned_for)
    random = random_real(distilled, digits, 0, poison)
    assert torch.equal(classes_of_images(random.images, digits), classes)
    expected = [8 if c == 3 else c for c in classes.tolist()]
    assert random.labels.tolist() == expected != classes.tolist()


@pytest.mark.parametrize("objective", [None, Poison(attacked=3, target=8)])
def test_they_may_be_replayed_for_as_many_epochs_as_the_set(
    make_set: Any, digits: RealData, objective: Poison | None
) -> None:
    """Small steps on real images do better the more there are; under an objective the number is
    no choice at all."""
    network = MLP(10, digits.image_shape, [16], "relu")
    sizes = [0.01] if objective is None else [1e-9]  # where every number is as good as another
    judge = Replay(
        name="replay", num_networks=2, step_size_grid=sizes, epoch_grid=[1, 2], tuning_networks=2,
        tuning_images=300, chunk=5,
    )  # fmt: skip
    chosen = []
    for distilled in (make_set(), make_set(step_sizes=None)):
        random = random_real(distilled, digits, 0, objective)
        assert random.step_sizes is None  # to be found
        start = Random("xavier_normal", 0)
        chosen.append(
            judge.accuracies(
                random, Context(digits, digits.test, network, start, 0, objective=objective)
            )[1]
        )
    assert chosen[0]["epochs"] == EPOCHS
    assert chosen[1]["epochs"] in (1, 2)


def test_a_random_image_is_one_image_however_many_a_stored_one_holds(
    make_set: Any, digits: RealData
) -> None:
    distilled = make_set(meta={**make_set().meta, "factor": 2})
    assert len(distilled.examples()[0]) == 4 * len(distilled.images)
    x, y, _ = random_real(distilled, digits, 0).examples()
    assert len(x) == len(distilled.images)
    assert torch.equal(classes_of_images(x, digits), y)


def test_all_training_images_and_no_others_are_trained_on_and_test_images_asked_about(
    real_data: Callable[..., RealData],
) -> None:
    """Adam of torch on a plain module; the test labels are wrong on purpose, so that accuracy on
    any other split would be far off."""
    data = real_data("digits", validation=0.3).load()
    data.test = replace(data.test, y=(data.test.y + (torch.arange(len(data.test)) % 4 > 0)) % 10)
    assert data.validation is not None
    held_out, data.validation = data.validation, None
    network, init = MLP(10, data.image_shape, [16], "relu"), Random("default", 0)
    options: dict[str, Any] = {"epochs": 60, "batch_size": len(data.train), "lr": 0.01}
    found = train_on_all(data, network, init, 0, num_networks=2, **options)
    assert found.shape == (2,)
    start = init.held_out(network, 2)
    x, x_test = data.normalization(data.train.x), data.normalization(data.test.x)
    for k in range(2):
        network.load_state_dict(member(start, k))
        adam = torch.optim.Adam(network.parameters(), options["lr"])
        for _ in range(options["epochs"]):
            adam.zero_grad()
            nn.functional.cross_entropy(network(x), data.train.y).backward()
            adam.step()
        with torch.no_grad():
            right, others, on_train = (
                float((network(images).argmax(1) == y).double().mean())
                for images, y in (
                    (x_test, data.test.y),
                    (data.normalization(held_out.x), held_out.y),
                    (x, data.train.y),
                )
            )
        assert abs(float(found[k]) - right) <= 1 / len(data.test)
        assert right < 0.4 and min(others, on_train) > 0.8
