"""Step sizes and the spreading of images over student steps."""

import math

import pytest
import torch

from ddist.errors import DdistError
from ddist.synthetic import StepSizes
from ddist.synthetic.steps import LARGEST, best_step_size, spread_over_steps


@pytest.mark.parametrize("start", [1e-6, 0.001, 0.02, 1.0, 30.0, 1000.0])
def test_they_start_where_they_are_told_to(start: float) -> None:
    sizes = StepSizes(3, 4, start)()
    assert sizes.shape == (3, 4)
    torch.testing.assert_close(sizes, torch.full((3, 4), start), rtol=1e-5, atol=0)


def test_the_raw_value_is_the_inverse_of_softplus() -> None:
    raw = StepSizes(1, 1, 0.02).raw.item()
    assert raw == pytest.approx(math.log(math.expm1(0.02)), rel=1e-6)  # the authors' code
    assert math.log1p(math.exp(raw)) == pytest.approx(0.02, rel=1e-6)


def test_they_stay_positive_however_far_learning_goes() -> None:
    sizes = StepSizes(1, 3, 0.02)
    optimizer = torch.optim.Adam(sizes.parameters(), lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        sizes().sum().backward()
        optimizer.step()
    assert (sizes() > 0).all() and sizes().max() < 1e-4


@pytest.mark.parametrize("start", [1e-4, 0.01, 1.0, 50.0])
def test_an_outer_step_changes_them_by_a_bounded_factor(start: float) -> None:
    sizes = StepSizes(1, 3, start)
    optimizer = torch.optim.Adam(sizes.parameters(), lr=0.02)
    before = sizes().detach()
    (sizes() * torch.tensor([1e6, -1.0, 1e-3])).sum().backward()  # whatever the gradients' size
    optimizer.step()
    factor = (sizes().detach() / before).log().abs()
    assert (factor <= 0.02 * 1.001).all() and (factor > 0.02 * min(0.9, 0.5 / start)).all()


def test_the_best_step_size_is_the_first_minimum_from_below() -> None:
    asked: list[float] = []

    def loss(size: float) -> float:
        asked.append(size)
        return math.nan if size > 1 else (math.log(size) - math.log(0.02)) ** 2

    assert best_step_size(loss) == pytest.approx(0.02, rel=0.42)  # a power of two away at most
    assert max(asked) < 0.1  # larger ones would only diverge
    assert best_step_size(lambda size: math.nan if size > 0.01 else -size) < 0.0101
    assert best_step_size(lambda size: -size) == pytest.approx(LARGEST, rel=0.5)


def test_each_step_and_epoch_learns_its_own() -> None:
    sizes = StepSizes(2, 3, 0.1)
    sizes()[1, 2].backward()
    assert sizes.raw.grad is not None
    assert torch.nonzero(sizes.raw.grad).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("ipc", "classes", "steps"), [(1, 10, 1), (10, 10, 10), (10, 3, 3), (7, 4, 5), (50, 2, 10)]
)
def test_every_step_holds_every_class_evenly(ipc: int, classes: int, steps: int) -> None:
    labels, index = spread_over_steps(ipc, classes, steps)
    assert labels.bincount().tolist() == [ipc] * classes
    assert torch.equal(index, index.sort().values) and index.max() == steps - 1
    per_step = []
    for step in range(steps):
        found = labels[index == step]
        assert torch.equal(found, found.sort().values)
        (count,) = set(found.bincount(minlength=classes).tolist())  # each class as often
        per_step.append(count)
    assert max(per_step) - min(per_step) <= 1


def test_an_uneven_spread_written_out() -> None:
    labels, index = spread_over_steps(3, 2, 2)
    assert labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert index.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("steps", [0, -1, 4])
def test_more_steps_than_images_per_class_are_refused(steps: int) -> None:
    with pytest.raises(DdistError, match=rf"student_steps={steps}.*ipc=3.*at most 3"):
        spread_over_steps(3, 10, steps)
