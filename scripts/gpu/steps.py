"""Outer steps as ddist takes them, on random images of CIFAR-10's shapes."""

import logging
import time
import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from plan import Setting, random_images
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from ddist.data import RealData
from ddist.tasks.build import build_init, build_method, read_data
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.recipes import PAPER, recipes
from ddist.tasks.teachers import shared_teacher


@cache
def composed(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(words))


def config(setting: Setting, *words: str) -> DictConfig:
    """The settings of a run with these words on random images."""
    where = [
        "dataset=arrays", f"dataset.source.file={random_images(setting)}",
        f"paths.cache={setting.folder / 'cache'}", f"hydra.run.dir={setting.folder / 'run'}",
    ]  # fmt: skip
    methods = {word.removeprefix("method=") for word in words}
    papers = [m for _, m, section, _ in recipes(conf_dir() / "recipe") if section == PAPER]
    paper = [f"recipe={method}/{PAPER}" for method in papers if method in methods]
    # A copy: what is composed once is shared.
    cfg = DictConfig({**composed(*where, *paper, *words)})
    cfg.recipe = cfg.recipe or "any"  # so that networks are the papers' on any machine
    return cfg


@dataclass
class Watch(Callback):
    """Seconds of each outer step, and the loss and gradients of the first one.

    ``most_seconds``: the training stops after the step that ends later.
    """

    setting: Setting
    most_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    synchronizations: int | None = None  # of the host with the GPU, within the third step
    loss: Tensor | None = None
    gradients: list[Tensor] = field(default_factory=list)

    def on_train_start(self, *_: Any) -> None:
        self.begun = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        self.setting.synchronize()
        if len(self.seconds) == 2 and self.setting.device != "cpu":
            self._caught = warnings.catch_warnings(record=True)
            self._warned = self._caught.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        self.start = time.perf_counter()

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if not self.gradients:
            found = (p.grad for p in module.parameters() if p.grad is not None)
            self.gradients = [gradient.detach().double().cpu() for gradient in found]

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        if len(self.seconds) == 2 and self.setting.device != "cpu":
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            self.synchronizations = sum("synchroniz" in str(w.message) for w in self._warned)
        self.setting.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        if self.loss is None:
            self.loss = outputs["loss"].detach().double().cpu()
        if len(self.seconds) >= 3 and time.perf_counter() - self.begun > self.most_seconds:
            trainer.should_stop = True


def train(
    cfg: DictConfig, watch: Watch, *, device: str, max_steps: int, precision: str = "32-true"
) -> RealData:
    """Take up to ``max_steps`` outer steps of the method of ``cfg`` by Lightning; the data, on the
    device by then."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    cfg, data = read_data(cfg)
    method = build_method(cfg, data, build_init(cfg, data), shared_teacher(cfg, data))
    trainer = Trainer(
        max_steps=max_steps, accelerator="cpu" if device == "cpu" else "gpu", devices=1,
        precision=precision, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[watch],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, datamodule=data)
    return data
