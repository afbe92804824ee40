import pytest
import torch
from torch import Tensor

from ddist.data.split import Split, cut_validation, limit_classes
from ddist.errors import DdistError
from ddist.seeding import generator


def numbered(labels: list[int], num_classes: int) -> Split:
    """Images of one pixel that holds their own number, so that each can be told apart."""
    x = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Split.sort(x, torch.tensor(labels), num_classes)


def numbers(split: Split) -> list[int]:
    found: list[int] = split.x.flatten().tolist()
    return found


def test_sort_keeps_the_order_within_a_class_and_offsets_are_its_bounds() -> None:
    split = numbered([2, 0, 2, 0, 0], num_classes=4)
    assert numbers(split) == [1, 3, 4, 0, 2]
    assert split.y.tolist() == [0, 0, 0, 2, 2]
    assert split.offsets == (0, 3, 3, 5, 5)
    assert split.counts == (3, 0, 2, 0)


def test_validation_is_a_stratified_partition() -> None:
    split = numbered([0] * 40 + [1] * 20 + [2] * 2, num_classes=3)
    train, validation = cut_validation(split, 0.25, generator(0, "v"))
    assert validation.counts == (10, 5, 1)  # at least one of each
    assert sorted(numbers(train) + numbers(validation)) == list(range(62))
    for part in (train, validation):  # every image has kept its label
        assert all(y == (n >= 40) + (n >= 60) for n, y in zip(numbers(part), part.y, strict=True))


def test_validation_depends_on_the_generator_alone() -> None:
    split = numbered([0] * 40, num_classes=1)

    def cut(key: str) -> list[int]:
        return numbers(cut_validation(split, 0.5, generator(0, key))[1])

    assert cut("a") == cut("a") != cut("b")


def test_validation_refuses_a_class_of_one_image() -> None:
    with pytest.raises(DdistError, match="class 1 has 1"):
        cut_validation(numbered([0, 0, 1], 2), 0.5, generator(0))


def test_subset_keeps_distinct_images_of_each_class() -> None:
    split = limit_classes(numbered([0] * 5 + [1] * 2, 2), 3, generator(0))
    assert split.counts == (3, 2)
    assert len(set(numbers(split))) == 5


def test_to_moves_all_tensors() -> None:
    moved: Tensor = numbered([0, 1], 2).to("meta").x
    assert moved.device.type == "meta"
