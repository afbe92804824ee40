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
from collections.abc import Callable
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch.utils.flop_counter import FlopCounterMode

from ddist.cli.allocator import keep_freed_memory
from ddist.tasks.build import build_init, build_method, read_data, shared_teacher
from ddist.tasks.config import conf_dir, register_resolvers

SIDE = 2048
COUNTED = 2  # the step whose operations are counted, which takes longer for it
BRIEF = ("trajectories.num_experts=1", "method.max_start_epoch=1")
"""For methods with experts, whose number changes nothing of a step."""


class Watch(Callback):
    """Notes the seconds of each outer step but the first ones, and the operations of one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.operations = 0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.counter = FlopCounterMode(display=False) if trainer.global_step == COUNTED else None
        if self.counter is not None:
            self.counter.__enter__()
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.operations = self.counter.get_total_flops()
        elif trainer.global_step > COUNTED:
            self.seconds.append(time.perf_counter() - self.began)


def composed(words: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", words)


def watch_steps(words: list[str], steps: int) -> tuple[Watch, str]:
    """Take ``steps`` outer steps that count; return what was seen, and their precision."""
    cfg, data = read_data(composed(words))
    method = build_method(cfg, data, build_init(cfg, data), shared_teacher(cfg, data))
    watch = Watch()
    trainer = Trainer(
        max_steps=COUNTED + 1 + steps, accelerator="cpu", precision=cfg.trainer.precision,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[watch],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, datamodule=data)
    return watch, cfg.trainer.precision


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
    print("| method | precision | s a step | G operations | G/s | product, G/s | share |")
    print("|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as cache:
        for method in options.methods:
            words = [
                f"method={method}", "dataset=imagefolder", f"dataset.folder={options.folder}",
                "ipc=10", "paths.data=.", "paths.run=.", f"paths.cache={cache}",
                *options.words,
            ]  # fmt: skip
            if "trajectories" in composed(words).method:
                words += BRIEF
            watch, precision = watch_steps(words, options.steps)
            seconds, most = median(watch.seconds), product_rate(precision)
            rate = watch.operations / seconds
            print(
                f"| {method} | {precision} | {seconds:.2f} | {watch.operations / 1e9:.0f} | "
                f"{rate / 1e9:.0f} | {most / 1e9:.0f} | {rate / most:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
