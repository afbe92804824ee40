import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from ddist.callbacks import Budget, Checkpoint, Interrupt, MetricsCSV


class Killed(BaseException):
    """Stands for a kill: nothing may be saved after it."""


def test_resume_after_a_kill_is_bit_for_bit(toy_run, tmp_path: Path) -> None:
    whole, _ = toy_run(11, [])

    def kill(step: int) -> None:
        if step == 7:
            raise Killed

    path = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(Killed):
        toy_run(11, [Checkpoint(path, seconds=0)], on_step=kill)
    steps: list[int] = []
    resumed, trainer = toy_run(11, [Checkpoint(path, 60)], ckpt_path=path, on_step=steps.append)
    assert steps == [7, 8, 9, 10]
    assert trainer.global_step == 11
    assert torch.equal(resumed.weight, whole.weight)


def test_resume_is_exact_when_gradients_are_accumulated(toy_run, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    whole, _ = toy_run(6, [], accumulate_grad_batches=3)
    batches = iter(range(99))

    def kill(step: int) -> None:
        if next(batches) == 3 * 3 + 2:  # the last batch of the fourth step
            raise Killed

    with pytest.raises(Killed):
        toy_run(6, [Checkpoint(path, seconds=0)], on_step=kill, accumulate_grad_batches=3)
    resumed, _ = toy_run(6, [Checkpoint(path, 60)], ckpt_path=path, accumulate_grad_batches=3)
    assert torch.equal(resumed.weight, whole.weight)


def test_last_ckpt_is_written_at_the_end_and_nothing_else(toy_run, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    for steps in (3, 5):  # the second run replaces the first one's file
        toy_run(steps, [Checkpoint(path, seconds=60)])
        assert torch.load(path, weights_only=True)["global_step"] == steps
        assert os.listdir(path.parent) == ["last.ckpt"]


def test_a_failed_write_leaves_the_previous_checkpoint(
    toy_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    toy_run(3, [Checkpoint(path, 60)])

    def full_disk(self: Trainer, filepath: Path) -> None:
        Path(filepath).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_checkpoint", full_disk)
    with pytest.raises(OSError, match="No space"):
        toy_run(4, [Checkpoint(path, 60)])
    assert torch.load(path, weights_only=True)["global_step"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_steps_with_an_exact_checkpoint(
    toy_run, tmp_path: Path, number: signal.Signals
) -> None:
    whole, _ = toy_run(9, [])
    path = tmp_path / "last.ckpt"
    interrupt, before = Interrupt(patience=10), signal.getsignal(number)

    def press(step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), number)

    _, trainer = toy_run(9, [interrupt, Checkpoint(path, 60)], on_step=press)
    assert trainer.global_step == 5
    assert interrupt.received == number
    assert signal.getsignal(number) is before
    resumed, _ = toy_run(9, [Interrupt(patience=10), Checkpoint(path, 60)], ckpt_path=path)
    assert torch.equal(resumed.weight, whole.weight)


def test_a_second_ctrl_c_interrupts_at_once_and_keeps_the_checkpoint_whole(
    toy_run, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"

    def press_twice(step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):  # what Lightning makes of a KeyboardInterrupt
            toy_run(9, [Interrupt(patience=10), Checkpoint(path, seconds=0)], on_step=press_twice)
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores SIGINT from then on
    assert torch.load(path, weights_only=True)["global_step"] == 4


def test_resume_spends_only_what_is_left_of_the_budget(
    toy_run, tmp_path: Path, passes: Callable[[float], None]
) -> None:
    path, slow = tmp_path / "last.ckpt", lambda step: passes(4)
    _, first = toy_run(8, [Budget("60s"), Checkpoint(path, 60)], on_step=slow)
    assert first.global_step == 8
    budget = Budget(45)
    _, second = toy_run(100, [budget, Checkpoint(path, 60)], ckpt_path=path, on_step=slow)
    assert (second.global_step, budget.spent) == (12, 48)


def test_metrics_go_on_after_a_resume_and_start_anew_otherwise(toy_run, tmp_path: Path) -> None:
    path, csv = tmp_path / "last.ckpt", tmp_path / "metrics.csv"
    toy_run(6, [], logger=MetricsCSV(csv))
    whole = csv.read_text()
    assert whole.splitlines()[0] == "step,distill/loss"
    assert len(whole.splitlines()) == 7
    toy_run(4, [Checkpoint(path, 60)], logger=MetricsCSV(csv))
    with csv.open(
        "a"
    ) as file:  # rows of steps after the checkpoint: the resumed run's replace them
        file.write("4,99.0\n5,99.0\n")
    toy_run(6, [], ckpt_path=path, logger=MetricsCSV(csv))
    assert csv.read_text() == whole
