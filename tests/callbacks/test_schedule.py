import logging
import time

import pytest

from ddist.callbacks import (
    Budget,
    TimeEstimate,
    format_duration,
    parse_duration,
    schedule,
)
from ddist.errors import DdistError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20m", 1200), ("90s", 90), ("1h30m", 5400), ("45", 45), (45, 45), (1.5, 1.5), ("1h 5s", None),
     ("0.5h", 1800), (" 2M ", 120), ("0", None), ("", None), ("20 minutes", None), ("-5", None),
     ("30m1h", None), ("1h2m3s", 3723), ("true", None)],
)  # fmt: skip
def test_parse_duration(text: str | float, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(DdistError, match="budget=20m"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (1500, "25 min"),
     (3580, "1 h 00 min"), (11100, "3 h 05 min")],
)  # fmt: skip
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_budget_stops_after_its_time_and_says_so(toy_run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ddist"):
        _, trainer = toy_run(100, [Budget("0.3")], on_step=lambda step: time.sleep(0.05))
    assert 4 <= trainer.global_step <= 7
    assert f"stopped at step {trainer.global_step} of 100" in caplog.text


def test_no_budget_never_stops(toy_run) -> None:
    budget = Budget(None)
    _, trainer = toy_run(5, [budget])
    assert trainer.global_step == 5
    assert budget.left == float("inf")


def test_estimate_leaves_the_first_step_out_and_speaks_once(
    toy_run, caplog: pytest.LogCaptureFixture
) -> None:
    def slow_start(step: int) -> None:
        time.sleep(0.5 if step == 0 else 0.02)

    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(10, [TimeEstimate(num_steps=4, seconds=10, presets=[])], on_step=slow_start)
    (line,) = [r.getMessage() for r in caplog.records if "per step" in r.getMessage()]
    assert 0.02 <= float(line.split()[0]) < 0.1
    assert "the 5 steps that are left" in line


@pytest.mark.parametrize("limit", [None, "5m"])
def test_a_long_schedule_on_a_cpu_names_the_preset_and_the_budget(
    toy_run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, limit: str | None
) -> None:
    monkeypatch.setattr(schedule, "_HOUR", 0.0)
    estimate = TimeEstimate(num_steps=2, seconds=10, presets=["laptop/dd_mnist_ipc1"])
    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(6, [estimate, Budget(limit)])
    assert ("experiment=laptop/dd_mnist_ipc1" in caplog.text) == (limit is None)
    assert ("budget=20m" in caplog.text) == (limit is None)
