"""Seconds of outer steps on a folder of pictures, and what the machine's matrix product allows.

    python scripts/step_share.py PICTURES [setting ...] [--methods dm dsa frepo mtt] [--steps 5]

With the settings that ``ddist dataset=imagefolder dataset.folder=PICTURES ipc=10`` has by itself.
The operations of a step are counted (convolutions and products; all else is free), and the share is
of the time that as many take in a product of two matrices of 2048 x 2048 in the same precision.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch.utils.flop_counter import FlopCounterMode

from ddist.cli.allocator import keep_freed_memory
from ddist.tasks.build import build_init, build_method, read_data
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.teachers import shared_teacher

SIDE = 2048
WARM = 2  # steps before those that count
BRIEF = ("trajectories.num_experts=1", "method.max_start_epoch=1")
"""For methods with experts, whose number changes nothing of a step."""


class Counting(Callback):
    """Counts the operations of one outer step, and ends there."""

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == WARM:
            self.counter.__enter__()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step > WARM:
            self.counter.__exit__(None, None, None)
            trainer.should_stop = True


class Timing(Callback):
    """Notes the seconds of ``steps`` outer steps after the first ones, and ends there."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step > WARM:
            self.seconds.append(time.perf_counter() - self.began)
        trainer.should_stop = len(self.seconds) >= self.steps


def composed(words: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", words)


def take_steps(words: list[str], callback: Callback) -> str:
    """Take outer steps until ``callback`` ends them; return their precision.

    The trainer knows the number of steps of a whole run, on which it depends whether to compile.
    """
    cfg, data = read_data(composed(words))
    method = build_method(cfg, data, build_init(cfg, data), shared_teacher(cfg, data))
    trainer = Trainer(
        max_steps=cfg.steps, accelerator="cpu", precision=cfg.trainer.precision,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, datamodule=data)
    return cfg.trainer.precision


@contextmanager
def told() -> Iterator[list[str]]:
    """Collect what ddist logs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("ddist")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def seconds_of(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def product_rate(precision: str) -> float:
    """Return the operations per second of a product of matrices."""
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    a = torch.randn(SIDE, SIDE).to(dtype)
    times = [seconds_of(lambda: a @ a) for _ in range(7)]
    return 2 * SIDE**3 / median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("words", nargs="*", help="further settings")
    parser.add_argument("--methods", nargs="+", default=["dm", "dsa", "frepo", "mtt"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    print(
        "| method | precision | compiled | s a step | G operations | G/s | product, G/s | share |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as cache:
        for method in options.methods:
            words = [
                f"method={method}", "dataset=imagefolder", f"dataset.folder={options.folder}",
                "ipc=10", "paths.data=.", "paths.run=.", f"paths.cache={cache}",
                *options.words,
            ]  # fmt: skip
            if "trajectories" in composed(words).method:
                words += BRIEF
            counting, timing = Counting(), Timing(options.steps)
            take_steps([*words, "compile=false"], counting)  # what is compiled cannot be counted
            with told() as lines:
                precision = take_steps(words, timing)
            compiled = "yes" if any("Compiling" in line for line in lines) else "no"
            operations = counting.counter.get_total_flops()
            seconds, most = median(timing.seconds), product_rate(precision)
            rate = operations / seconds
            print(
                f"| {method} | {precision} | {compiled} | {seconds:.2f} | {operations / 1e9:.0f} | "
                f"{rate / 1e9:.0f} | {most / 1e9:.0f} | {rate / most:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
