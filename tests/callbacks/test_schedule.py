import logging
from collections.abc import Callable

import pytest

from ddist.callbacks import Budget, TimeEstimate, schedule


def test_budget_stops_after_its_time_and_says_so(
    toy_run, caplog: pytest.LogCaptureFixture, passes: Callable[[float], None]
) -> None:
    with caplog.at_level(logging.INFO, "ddist"):
        _, trainer = toy_run(100, [Budget("30")], on_step=lambda step: passes(7))
    assert trainer.global_step == 5
    assert "The budget of 30 s is used up: stopped at step 5 of 100." in caplog.text


def test_no_budget_never_stops(toy_run) -> None:
    budget = Budget(None)
    _, trainer = toy_run(5, [budget])
    assert trainer.global_step == 5
    assert budget.left == float("inf")


def test_estimate_leaves_the_first_step_out_and_speaks_once(
    toy_run, caplog: pytest.LogCaptureFixture, passes: Callable[[float], None]
) -> None:
    def slow_start(step: int) -> None:
        passes(5 if step == 0 else 0.02)

    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(10, [TimeEstimate(num_steps=4, seconds=10, preset=None)], on_step=slow_start)
    (line,) = [r.getMessage() for r in caplog.records if "per step" in r.getMessage()]
    assert float(line.split()[0]) == pytest.approx(0.02)
    assert "the 5 steps that are left" in line


def test_the_estimate_says_what_a_budget_has_time_for(
    toy_run, caplog: pytest.LogCaptureFixture, passes: Callable[[float], None]
) -> None:
    estimate = TimeEstimate(num_steps=4, seconds=10, preset=None)
    with caplog.at_level(logging.INFO, "ddist"):
        _, trainer = toy_run(100, [Budget("30"), estimate], on_step=lambda step: passes(1))
    text = "1 s per step: the budget has time for 25 of the 95 steps that are left."
    assert text in caplog.text and trainer.global_step == 30
    caplog.clear()
    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(10, [Budget("30"), estimate], on_step=lambda step: passes(1))
    assert "the 5 steps that are left take about 5 s on this machine" in caplog.text


@pytest.mark.parametrize("limit", [None, "5m"])
def test_a_long_schedule_on_a_cpu_names_the_preset_and_the_budget(
    toy_run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, limit: str | None
) -> None:
    monkeypatch.setattr(schedule, "_HOUR", 0.0)
    estimate = TimeEstimate(num_steps=2, seconds=10, preset="laptop/dm")
    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(6, [estimate, Budget(limit)])
    assert ("experiment=laptop/dm has settings for 2 CPU cores" in caplog.text) == (limit is None)
    assert ("budget=20m" in caplog.text) == (limit is None)


@pytest.mark.parametrize(
    ("steps", "said"),
    [(5, None), (6, "the step that is left takes"), (9, "the 4 steps that are left take")],
)
def test_nothing_is_estimated_where_no_step_is_left(
    toy_run,
    caplog: pytest.LogCaptureFixture,
    passes: Callable[[float], None],
    steps: int,
    said: str | None,
) -> None:
    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(steps, [TimeEstimate(4, 10, preset=None)], on_step=lambda step: passes(1))
    lines = [r.getMessage() for r in caplog.records if "per step" in r.getMessage()]
    assert [said in line for line in lines] == ([] if said is None else [True])


def test_a_budget_counts_what_comes_before_the_first_step(
    toy_run, caplog: pytest.LogCaptureFixture, passes: Callable[[float], None]
) -> None:
    budget = Budget("30")
    passes(20)  # data, experts, pre-trained networks
    with caplog.at_level(logging.INFO, "ddist"):
        _, trainer = toy_run(100, [budget], on_step=lambda step: passes(6))
    assert trainer.global_step == 2
    assert (budget.spent, budget.stepped) == (32, 12)
    assert "20 s of the budget of 30 s went into what the first step needs" in caplog.text
