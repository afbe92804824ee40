"""What long stages show of themselves."""

import io
from collections.abc import Callable

import pytest
import rich
from rich.console import Console

from ddist.stages.progress import Progress


def test_a_line_after_the_first_unit_each_tenth_and_each_minute(
    caplog: pytest.LogCaptureFixture, passes: Callable[[float], None]
) -> None:
    caplog.set_level("INFO")
    with Progress("pre-training", "epochs", 100, before=40) as progress:
        for done in range(41, 101):
            passes(70 if done == 55 else 2)
            progress.to(done)
    assert caplog.messages[:3] == [
        "pre-training: 41/100 epochs · 1 min 58 s left",  # those of before took no time
        "pre-training: 51/100 epochs · 1 min 38 s left",
        "pre-training: 55/100 epochs · 4 min 54 s left",
    ]
    assert len(caplog.messages) == 7


def test_a_short_stage_says_nothing(
    caplog: pytest.LogCaptureFixture, passes: Callable[[float], None]
) -> None:
    caplog.set_level("INFO")
    with Progress("evaluating", "networks", 10, quiet=5) as progress:
        for index in range(10):
            passes(0.4)
            progress.part(index, 10)(1, 1)
    assert not caplog.messages


def test_a_terminal_gets_a_bar_that_goes_with_its_stage(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(rich, "get_console", lambda: screen)
    with pytest.raises(KeyboardInterrupt), Progress("experts", "epochs", 3) as progress:
        progress.to(1)
        progress.to(2)
        raise KeyboardInterrupt
    assert not caplog.messages
    assert "2/3 epochs" in screen.file.getvalue()  # type: ignore[attr-defined]
    with screen.status("free again"):
        pass
