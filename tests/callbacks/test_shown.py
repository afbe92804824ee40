"""What a run shows: progress, pictures, log lines, and the refusal of a loss that is no number."""

import logging
import re
from pathlib import Path

import pytest
import rich
from rich.console import Console

from ddist.callbacks import Progress, SaveImages
from ddist.report.console import ConsoleHandler


def test_progress_lines_are_few_and_plain_without_a_terminal(
    toy_run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ddist"):
        toy_run(40, [Progress(live=None, line_fraction=0.25, line_seconds=60)])
    lines = [r.getMessage() for r in caplog.records if r.name == "ddist.callbacks.progress"]
    assert [line.split(" · ")[0] for line in lines] == [f"step {n}/40" for n in (10, 20, 30, 40)]
    pattern = r"step 20/40 · loss \S+ · \S+ steps/s · \d+ s left"
    assert re.fullmatch(pattern, lines[1])


def test_progress_bar_counts_outer_steps(toy_run, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=100, record=True, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    toy_run(12, [Progress(live=True, line_fraction=0.1, line_seconds=60)])
    last = console.export_text().strip().splitlines()[-1]
    assert last.startswith("distilling")
    assert "step 12/12 · loss" in last
    assert "Epoch" not in last


def test_console_handler_prints_plain_unwrapped_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich, "get_console", lambda: Console(width=20))
    text = "a long line [red]with brackets[/red] and the path /tmp/run/checkpoints/last.ckpt"
    ConsoleHandler().emit(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize(("count", "steps"), [(0, []), (1, [7]), (3, [3, 6, 7]), (9, range(1, 8))])
def test_pictures_are_saved_evenly(toy_run, tmp_path: Path, count: int, steps: list[int]) -> None:
    folder = tmp_path / "images"
    toy_run(7, [SaveImages(folder, num_pictures=count)])
    assert [p.name for p in sorted(folder.glob("*"))] == [f"step_{n:06d}.png" for n in steps]
