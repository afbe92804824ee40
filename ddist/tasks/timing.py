"""Timing: a clock, the slope of a trial, the times of outer steps."""

import os
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from ddist.callbacks.schedule import step_finished
from ddist.data import RealData

LEAST = 3
"""The fewest outer steps to time, after the first."""


def now() -> float:
    """Return the machine's clock, once all that an accelerator has to do is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.monotonic()


def since_start() -> float:
    """Return the seconds since this process began, importing included; those of the CPU, where
    nobody knows when that was."""
    status, uptime = Path("/proc/self/stat"), Path("/proc/uptime")
    if not (status.exists() and uptime.exists()):
        return time.process_time()
    ticks = int(status.read_text().rsplit(")", 1)[1].split()[19])
    return float(uptime.read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def seconds_of(action: Callable[[], Any]) -> float:
    """Return the seconds that ``action`` takes."""
    started = now()
    action()
    return now() - started


def slope(took: Callable[[int], float], least: int, most: int, enough: float) -> float:
    """Return the seconds that each unit above ``least`` takes, from ``took(units)`` of ever more
    units, until they take ``enough`` seconds longer or are ``most``."""
    first, units, longer = took(least), least, 0.0
    while units < most and longer < enough:
        units = min(most, 4 * units)
        longer = took(units) - first
    return max(0.0, longer) / max(1, units - least)


class StepTimes(Callback):
    """Stop distilling after some outer steps that take ``enough`` seconds, without the first."""

    def __init__(self, enough: float) -> None:
        self.enough = enough
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if step_finished(trainer):
            self.times.append(now())
            if len(self.times) > LEAST and self.times[-1] - self.times[0] >= self.enough:
                trainer.should_stop = True

    @property
    def seconds_per_step(self) -> float:
        """Mean time of the steps after the first, which warms up."""
        return (self.times[-1] - self.times[0]) / max(1, len(self.times) - 1) if self.times else 0.0


def tested_on_fewer(data: RealData, most: int) -> RealData:
    """Return the same data with at most ``most`` images to test and to validate with."""
    fewer = copy(data)
    fewer.test = data.test.at_most(most)
    fewer.validation = None if data.validation is None else data.validation.at_most(most)
    return fewer
