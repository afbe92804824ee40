"""The students of DC, DSA, IDC and CAFE against plain loops: torch.optim.SGD on a plain module, in
double precision."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ddist.augment.mix import Mix, cutmix
from ddist.inner.stacking import member, num_members
from ddist.methods import CAFE, DC, IDC
from ddist.methods.students import AlongStudents
from ddist.networks import Weights
from ddist.seeding import generator

LR, BATCH, EPOCHS = 0.05, 8, 2
STUDENT: dict[str, Any] = {
    "num_networks": 2, "distance": "cosine", "updates": 4, "student_epochs": EPOCHS,
    "student_lr": LR, "student_batch_size": BATCH, "sum_classes": False,
}  # fmt: skip
MOMENTUM, WEIGHT_DECAY, REAL_IMAGES = 0.9, 0.05, 20
REAL_STUDENT: dict[str, Any] = STUDENT | {
    "student_images": REAL_IMAGES, "student_momentum": MOMENTUM,
    "student_weight_decay": WEIGHT_DECAY, "synthetic_per_class": None, "mix": None,
}  # fmt: skip
WATCHED: dict[str, Any] = {
    "layer_weights": [1.0], "discrimination": 0.01, "window": 2, "saturation": -1.0,
    "movement": 0.02, "max_updates": 9, "max_student_epochs": 5, "student_lr": LR,
    "student_batch_size": BATCH, "query_per_class": 20,
}  # fmt: skip
Make = Callable[..., AlongStudents]


def sgd_epochs(
    method: AlongStudents, weights: Weights, stream: torch.Generator, x: Tensor, y: Tensor,
    mix: Mix | None = None, **options: float,
) -> Iterator[nn.Module]:  # fmt: skip
    """The module of ``weights`` (not stacked) after each further epoch on images ``x``, classes
    ``y``."""
    student = deepcopy(method.network)
    student.load_state_dict(weights)
    optimizer = torch.optim.SGD(student.parameters(), lr=LR, **options)
    while True:
        for rows in torch.randperm(len(x), generator=stream).split(BATCH):
            images, labels = method.augment(x[rows], stream), y[rows]
            mixed = None if mix is None else mix(images, stream)
            optimizer.zero_grad()
            if mixed is None:
                loss = cross_entropy(student(images), labels)
            else:
                logits, others = student(mixed.x), labels[mixed.partner]
                loss = mixed.share * cross_entropy(logits, labels)
                loss = loss + (1 - mixed.share) * cross_entropy(logits, others)
            loss.backward()
            optimizer.step()
        yield student


def after(epochs: int, students: Iterator[nn.Module]) -> nn.Module:
    return [next(students) for _ in range(epochs)][-1]


def assert_same(ours: Weights, theirs: nn.Module) -> None:
    for name, w in theirs.named_parameters():
        torch.testing.assert_close(ours[name], w.detach(), rtol=1e-9, atol=1e-11)


def move_images(method: AlongStudents, step: int) -> None:
    """What an outer step does to them."""
    images = method.synthetic.images
    moved = torch.randn(images.shape, generator=generator(0, "moved", step), dtype=images.dtype)
    with torch.no_grad():
        images += 0.3 * moved


def steps_of(method: AlongStudents, num: int) -> Iterator[tuple[int, Weights, Weights]]:
    """The outer step, the students before and those that it has, for steps 1 to ``num``."""
    before = method.networks_of_step()
    for step in range(1, num + 1):
        move_images(method, step)
        method.at = step  # type: ignore[assignment]
        found = method.networks_of_step()
        yield step, before, found
        before = found


@pytest.mark.parametrize("augment", ["plain", "dsa"])
def test_those_of_dc_and_dsa_learn_the_synthetic_images(make_matching: Make, augment: str) -> None:
    """Batches of 8, 8 and 4, without momentum or decay, whatever the images are by then."""
    method = make_matching(DC, **STUDENT, augment=augment)
    for step, before, found in steps_of(method, 3):
        x, y = (each.detach() for each in method.synthetic())
        assert num_members(found) == 2 and len(x) == 20
        for k in range(2):
            stream = generator(0, "student", 0, step, k)
            epochs = sgd_epochs(method, member(before, k), stream, x, y)
            assert_same(member(found, k), after(EPOCHS, epochs))


@pytest.mark.parametrize("probability", [None, 0.5, 1.0])
@pytest.mark.parametrize("augment", ["plain", "dsa"])
def test_those_of_idc_learn_real_images_with_cutmix(
    make_matching: Make, augment: str, probability: float | None
) -> None:
    """With momentum, which is fresh at each outer step, and weight decay."""
    mix = None if probability is None else partial(cutmix, probability=probability, beta=1.0)
    method = make_matching(IDC, **REAL_STUDENT | {"mix": mix}, augment=augment)
    for step, before, found in steps_of(method, 2):
        x, y = method.data.batch(REAL_IMAGES, generator(0, "student images", 0, step, 0))
        for k in range(2):
            stream = generator(0, "student", 0, step, k)
            options = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
            epochs = sgd_epochs(method, member(before, k), stream, x, y, mix, **options)
            assert_same(member(found, k), after(EPOCHS, epochs))


def test_idcs_real_images_are_augmented_as_the_data_are(make_matching: Make) -> None:
    """dataset.augmentation, which the images of an outer step never see."""
    method = make_matching(IDC, **REAL_STUDENT)
    plain, _ = method.data.batch(REAL_IMAGES, generator(0, "student images", 0, 1, 0))
    method.data._augment = lambda x, stream: 255 - x
    ((_, before, found),) = steps_of(method, 1)
    x, y = method.data.batch(REAL_IMAGES, generator(0, "student images", 0, 1, 0))
    assert not torch.equal(x, plain)
    epochs = sgd_epochs(
        method, member(before, 0), generator(0, "student", 0, 1, 0), x, y,
        momentum=MOMENTUM, weight_decay=WEIGHT_DECAY,
    )  # fmt: skip
    assert_same(member(found, 0), after(EPOCHS, epochs))


@pytest.mark.parametrize("augment", ["plain", "dsa"])
def test_those_of_cafe_learn_until_they_have_moved(make_matching: Make, augment: str) -> None:
    method = make_matching(CAFE, **WATCHED, augment=augment)
    ((query, classes),) = method.query()
    query = method.data.normalization(method.data.train.x[method._query])
    lengths = []
    for step, before, found in steps_of(method, 4):
        x, y = (each.detach() for each in method.synthetic())
        stream = generator(0, "student", 0, step, 0)
        accuracies: list[float] = []
        for student in sgd_epochs(method, member(before, 0), stream, x, y):
            right = student(query).argmax(1) == classes
            accuracies.append(float(right.double().mean()))
            last = accuracies[-2:]
            moved = len(last) == 2 and max(last) - min(last) > WATCHED["movement"]
            if moved or len(accuracies) == WATCHED["max_student_epochs"]:
                break
        lengths.append(len(accuracies))
        assert_same(member(found, 0), student)
    assert len(set(lengths)) > 1  # the schedule decides


@pytest.mark.parametrize("kind", [DC, IDC])
def test_no_epochs_leave_students_as_they_are_drawn(make_matching: Make, kind: type) -> None:
    options = REAL_STUDENT if kind is IDC else STUDENT
    method = make_matching(kind, **options | {"student_epochs": 0})
    for _, before, found in steps_of(method, 2):
        assert all(torch.equal(before[name], w) for name, w in found.items())
