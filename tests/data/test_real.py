from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from ddist.data import RealData
from ddist.data.augmentation import crop_flip
from ddist.seeding import generator
from tests.trainers import quiet_trainer

Factory = Callable[..., RealData]


def find(data: RealData, x: Tensor) -> list[int]:
    """The index in the training split of each normalised image (the digits are all distinct)."""
    known = data.normalization(data.train.x).flatten(1).double()
    nearest, index = torch.cdist(x.flatten(1).double(), known).min(1)
    assert nearest.max() < 1e-5
    found: list[int] = index.tolist()
    return found


def test_digits_split(digits: RealData) -> None:
    assert (digits.num_classes, digits.image_shape) == (10, (1, 8, 8))
    assert (len(digits.train), len(digits.test), digits.validation) == (1352, 445, None)
    assert digits.smallest_class() == min(digits.train.counts) == 131
    assert digits.train.x.dtype == torch.uint8
    assert (digits.train.x.min(), digits.train.x.max()) == (0, 255)
    both = torch.cat([digits.train.x, digits.test.x]).flatten(1)
    assert len(both.unique(dim=0)) == 1797  # no image is in both


def test_batch_is_uniform_without_replacement(digits: RealData) -> None:
    x, y = digits.batch(1000, generator(0, "batch"))
    indices = find(digits, x)
    assert len(set(indices)) == 1000
    assert torch.equal(digits.train.y[indices], y)
    share = torch.bincount(y, minlength=10) / 1000
    assert (share - 0.1).abs().max() < 0.03  # not sorted away, not one class only
    assert digits.batch(3000, generator(0))[0].shape == (3000, 1, 8, 8)  # with replacement


def test_class_indices_are_distinct_and_of_their_class(digits: RealData) -> None:
    indices = digits.class_indices(7, generator(0, "class"))
    assert torch.equal(digits.train.y[indices], torch.arange(10)[:, None].expand(10, 7))
    assert len(indices.unique()) == 70
    x = digits.images(indices)
    assert x.shape == (10, 7, *digits.image_shape)
    assert find(digits, x.flatten(0, 1)) == indices.flatten().tolist()
    assert digits.class_indices(200, generator(0)).shape == (10, 200)  # more than a class has


def test_the_generator_alone_decides(digits: RealData) -> None:
    for draw in (lambda k, g: digits.batch(k, g)[0], digits.class_indices):
        first = draw(4, generator(0, "a"))
        assert torch.equal(first, draw(4, generator(0, "a")))
        assert not torch.equal(first, draw(4, generator(0, "b")))


def test_batches_walk_through_a_split_in_order(digits: RealData) -> None:
    parts = list(digits.batches(digits.test, 100))
    assert [len(y) for _, y in parts] == [100, 100, 100, 100, 45]
    assert torch.equal(torch.cat([x for x, _ in parts]), digits.normalization(digits.test.x))
    assert torch.equal(torch.cat([y for _, y in parts]), digits.test.y)


def test_augmentation_is_on_batches_and_never_on_images_of_classes(real_data: Factory) -> None:
    plain, augmented = (
        real_data("digits", augmentation=name).load() for name in ("none", "crop_flip")
    )
    draws = generator(0, "a")
    order = torch.randperm(1352, generator=draws)[:16]
    expected = plain.normalization(crop_flip(plain.train.x[order], draws))
    assert torch.equal(augmented.batch(16, generator(0, "a"))[0], expected)
    indices = plain.class_indices(3, generator(0))
    assert torch.equal(plain.images(indices), augmented.images(indices))


def test_subset_and_validation(real_data: Factory) -> None:
    data = real_data("digits", subset=50, validation=0.2).load()
    assert data.validation is not None
    assert data.train.counts == (40,) * 10
    assert data.validation.counts == (10,) * 10
    assert len(data.test) == 445  # the test split is never touched
    both = torch.cat([data.train.x, data.validation.x]).flatten(1)
    assert len(both.unique(dim=0)) == 500
    again, other = (real_data("digits", subset=50, validation=0.2, seed=s).load() for s in (0, 1))
    assert torch.equal(again.train.x, data.train.x)
    assert not torch.equal(other.train.x, data.train.x)


def test_channels_and_size(real_data: Factory) -> None:
    data = real_data("digits", channels=3, size=16).load()
    assert data.image_shape == (3, 16, 16)
    assert data.test.x.shape[1:] == (3, 16, 16)
    assert data.batch(2, generator(0))[0].shape == (2, 3, 16, 16)


def test_fingerprint_changes_with_what_training_sees(real_data: Factory) -> None:
    def fingerprint(**options: Any) -> str:
        return real_data("digits", **options).load().fingerprint()

    options = [
        {},
        {"subset": 20},
        {"size": 9},
        {"normalize": "none"},
        {"mean": [0.1], "std": [1.0]},
    ]
    assert len({fingerprint(**each) for each in options}) == len(options)
    assert fingerprint() == fingerprint()


class Recorder(LightningModule):
    """Remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch[0])
        return self.weight * batch[0].mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(data: RealData, steps: int, folder: Path, accumulate: int, resume: bool) -> list[Tensor]:
    module = Recorder()
    trainer = quiet_trainer(steps, accumulate_grad_batches=accumulate, default_root_dir=folder)
    path = folder / "state.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=path if resume else None)
    trainer.save_checkpoint(path)
    return module.seen


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_sees_the_batches_of_one_never_interrupted(
    real_data: Factory, tmp_path: Path, accumulate: int
) -> None:
    def data() -> RealData:  # a new process reads it anew
        return real_data("digits", batch_size=5)

    whole = train(data(), 6, tmp_path, accumulate, resume=False)
    first = train(data(), 2, tmp_path, accumulate, resume=False)
    second = train(data(), 6, tmp_path, accumulate, resume=True)
    assert len(whole) == 6 * accumulate
    assert all(torch.equal(a, b) for a, b in zip(whole, first + second, strict=True))
    assert not torch.equal(whole[0], whole[1])


def test_each_rank_draws_its_own_batches(real_data: Factory) -> None:
    class Rank:
        global_step, accumulate_grad_batches = 3, 1

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    seen = []
    for rank in (0, 1):
        data = real_data("digits", batch_size=5).load()
        data.trainer = Rank(rank)  # type: ignore[assignment]
        seen.append(next(iter(data.train_dataloader()))[0])
    expected = data.batch(5, generator(0, "real", 1, 3))[0]
    assert torch.equal(seen[1], expected)
    assert not torch.equal(*seen)


def test_a_method_without_real_images_gets_empty_batches(digits: RealData) -> None:
    batches = iter(digits.train_dataloader())
    assert [next(batches).numel() for _ in range(3)] == [0, 0, 0]
