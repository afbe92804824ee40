"""The step sizes that a teacher is trained with, step by step, against each schedule's formula."""

from collections.abc import Callable
from math import cos, pi
from typing import Any

import pytest
import torch

from ddist.teachers import Trained

LR, EPOCHS, PER_EPOCH = 0.1, 12, 2  # 70 images, 64 at a time
STEPS = EPOCHS * PER_EPOCH


def dropped(*epochs: int, by: float, passes: int) -> list[float]:
    """Every epoch's step size, ``by`` as large after each of ``epochs`` (counted from 1) ended."""
    found = [LR * by ** sum(done >= epoch for epoch in epochs) for done in range(passes)]
    return [lr for lr in found for _ in range(PER_EPOCH)]


SCHEDULES: dict[str, list[float]] = {
    "constant": [LR] * STEPS,
    "halfway": dropped(EPOCHS // 2 + 2, by=0.1, passes=EPOCHS + 1),
    "multistep": dropped(2 * EPOCHS // 3, 5 * EPOCHS // 6, by=0.2, passes=EPOCHS),
    "cosine": [LR * (1 + cos(pi * t / STEPS)) / 2 for t in range(STEPS)],
    "smooth_cosine": [LR * (1 + cos(pi * t / (2 * STEPS))) / 2 for t in range(STEPS)],
    "warmup_cosine": [LR * t / 500 for t in range(STEPS)],
}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Of every step of torch's SGD: its settings, and whether it was its optimizer's first."""
    seen: list[dict[str, Any]] = []
    step = torch.optim.SGD.step

    def noted(optimizer: torch.optim.SGD, *args: Any, **options: Any) -> Any:
        (group,) = optimizer.param_groups
        kept = {name: group[name] for name in ("lr", "momentum", "weight_decay")}
        seen.append(kept | {"fresh": not optimizer.state})
        return step(optimizer, *args, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    return seen


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_step_has_the_size_of_the_formula(
    make_teacher: Callable[..., Trained], steps: list[dict[str, Any]], schedule: str
) -> None:
    teacher = make_teacher(schedule=schedule, epochs=EPOCHS, lr=LR, train_per_class=7)
    teacher.predict(torch.zeros(1, 1, 8, 8))
    assert [each["lr"] for each in steps] == pytest.approx(SCHEDULES[schedule])
    assert {(each["momentum"], each["weight_decay"]) for each in steps} == {(0.9, 5e-4)}
    fresh = [number for number, each in enumerate(steps) if each["fresh"]]
    drop = PER_EPOCH * (EPOCHS // 2 + 2)  # where DC's code starts a new optimizer
    assert fresh == ([0, drop] if schedule == "halfway" else [0])
