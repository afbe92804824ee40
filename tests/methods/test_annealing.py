"""The rates of the outer optimizer, which fall to 0 by the end of a run, whatever ends it."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from math import cos, pi
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn

from ddist.callbacks import Budget, Checkpoint
from ddist.methods import Annealed
from ddist.methods.outer import OuterOptimizer

IMAGES, LABELS = 0.5, 2.0
SECONDS = 2.0  # of an outer step


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.ones(3))
        self.label_logits = nn.Parameter(torch.ones(3))


class Batches:
    def __iter__(self) -> Iterator[Tensor]:
        return repeat(torch.ones(1))


class Toy(OuterOptimizer):
    """``rates``: those that each step was taken with, of images and of labels."""

    def __init__(self, on_step: Callable[[int], None]) -> None:
        super().__init__(
            optimizer=torch.optim.Adam,
            scheduler=Annealed,
            lr={"images": IMAGES, "labels": LABELS},
        )
        self.synthetic = Learned()  # type: ignore[assignment]
        self.on_step = on_step
        self.rates: list[tuple[float, float]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        images, labels = self.trainer.optimizers[0].param_groups
        self.rates.append((images["lr"], labels["lr"]))
        self.on_step(self.global_step)
        learned = self.synthetic
        return (batch * learned.images * learned.label_logits).square().sum()  # type: ignore[operator]

    def train_dataloader(self) -> "Batches":
        return Batches()


Anneal = Callable[..., Toy]


@pytest.fixture
def anneal(tmp_path: Path, passes: Callable[[float], None]) -> Anneal:
    """``anneal(steps, *callbacks, on_step=…, resume=…)``: a run of ``SECONDS`` a step."""

    def run(
        steps: int,
        *callbacks: Any,
        on_step: Callable[[int], None] = lambda step: None,
        resume: Path | None = None,
        **options: Any,
    ) -> Toy:
        def step_taken(step: int) -> None:
            on_step(step)
            passes(SECONDS)

        toy = Toy(step_taken)
        trainer = Trainer(
            max_steps=steps, max_epochs=-1, accelerator="cpu", devices=1, logger=DummyLogger(),
            callbacks=list(callbacks), enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            default_root_dir=tmp_path, **options,
        )  # fmt: skip
        trainer.fit(toy, ckpt_path=resume, weights_only=True)
        return toy

    return run


def wave(*shares: float) -> Any:
    """The rates where these shares of the run are over."""
    factors = [(1 + cos(pi * share)) / 2 for share in shares]
    return [pytest.approx((factor * IMAGES, factor * LABELS)) for factor in factors]


def test_rates_fall_by_half_a_wave_over_the_steps(anneal: Anneal) -> None:
    assert anneal(4).rates == wave(0, 1 / 4, 2 / 4, 3 / 4)


def test_they_fall_once_per_outer_step_of_several_batches(anneal: Anneal) -> None:
    rates = anneal(2, accumulate_grad_batches=3).rates
    assert rates == wave(*[0] * 3, *[1 / 2] * 3)


def test_no_limit_and_one_that_is_far_away_change_nothing(anneal: Anneal) -> None:
    assert anneal(4, Budget(None)).rates == wave(0, 1 / 4, 2 / 4, 3 / 4)
    assert anneal(4, Budget("1h")).rates == wave(0, 1 / 4, 2 / 4, 3 / 4)


def test_rates_follow_the_time_that_ends_the_run_before_its_steps_do(anneal: Anneal) -> None:
    assert anneal(100, Budget("10")).rates == wave(0, 1 / 5, 2 / 5, 3 / 5, 4 / 5)


def test_what_is_further_counts_the_steps_or_the_time(
    anneal: Anneal, passes: Callable[[float], None]
) -> None:
    """Steps are ahead until one takes longer than all the others."""
    slow = anneal(10, Budget("40"), on_step=lambda step: passes(18 if step == 3 else 0))
    assert slow.rates[:5] == wave(0, 1 / 10, 2 / 10, 3 / 10, 26 / 40)


def test_time_before_the_first_step_is_no_part_of_the_wave(
    anneal: Anneal, passes: Callable[[float], None]
) -> None:
    """Not that of the command before its callbacks are made, nor what comes after that."""
    budget = Budget("20", before=8)
    passes(4)
    assert anneal(100, budget).rates == wave(0, 1 / 4, 2 / 4, 3 / 4)


def test_time_that_is_kept_for_the_evaluation_shortens_the_wave(anneal: Anneal) -> None:
    budget = Budget("20", reserve=12)
    assert anneal(100, budget).rates == wave(0, 1 / 4, 2 / 4, 3 / 4)
    assert (budget.spent, budget.left) == (8, 0)


class Killed(BaseException):
    """Stands for a kill: nothing may be saved after it."""


def kill(step: int, at: int) -> None:
    if step == at:
        raise Killed


@pytest.mark.parametrize("limit", [None, "20"])
def test_a_resumed_run_goes_on_with_the_same_rates(
    anneal: Anneal, passes: Callable[[float], None], tmp_path: Path, limit: str | None
) -> None:
    """And with what is left of the time: what lies between the two is nobody's."""
    steps = 10 if limit is None else 100
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        anneal(steps, Budget(limit), Checkpoint(path, seconds=0), on_step=partial(kill, at=6))
    passes(1000)
    resumed = anneal(steps, Budget(limit), Checkpoint(path, 60), resume=path)
    assert resumed.rates == wave(6 / 10, 7 / 10, 8 / 10, 9 / 10)


def test_ranks_share_the_clock_of_the_first(
    anneal: Anneal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here as another rank, whose own clock would be at 1/5; see also tests/distributed."""
    monkeypatch.setattr(
        "pytorch_lightning.strategies.SingleDeviceStrategy.broadcast",
        lambda self, shared, src=0: 1 / 2 if isinstance(shared, float) and src == 0 else shared,
    )
    assert anneal(100, Budget("10")).rates[1:3] == wave(1 / 2, 1 / 2)
