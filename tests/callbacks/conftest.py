"""A toy run: one learned vector chases random targets, with everything a checkpoint must hold."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor

from ddist.seeding import generator


class Batches:
    """Batch i depends on i alone, and i starts at the trainer's step: so a resume is exact."""

    def __init__(self, module: LightningModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[Tensor]:
        trainer = self.module.trainer
        index = trainer.global_step * trainer.accumulate_grad_batches
        while True:
            yield torch.randn(4, generator=generator(0, "real", index))
            index += 1


class Toy(LightningModule):
    def __init__(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4))
        self.on_step = on_step

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.on_step(self.global_step)
        loss = (self.weight - batch).square().sum()
        self.log("distill/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def picture(self) -> Image.Image:
        return Image.new("L", (4, 4))

    def train_dataloader(self) -> Batches:
        return Batches(self)


@pytest.fixture
def toy_run(tmp_path: Path) -> Callable[..., tuple[Toy, Trainer]]:
    """``toy_run(steps, callbacks, ckpt_path=None, logger=None, on_step=..., **options)``."""

    def run(
        steps: int,
        callbacks: list[Callback],
        ckpt_path: Path | None = None,
        logger: Any = None,
        on_step: Callable[[int], None] = lambda step: None,
        **options: Any,
    ) -> tuple[Toy, Trainer]:
        module = Toy(on_step)
        trainer = Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            devices=1,
            logger=logger or DummyLogger(),
            callbacks=callbacks,
            enable_progress_bar=any("Progress" in type(c).__name__ for c in callbacks),
            enable_checkpointing=any("Checkpoint" in type(c).__name__ for c in callbacks),
            enable_model_summary=False,
            log_every_n_steps=1,
            limit_val_batches=0,
            default_root_dir=tmp_path,
            **options,
        )
        trainer.fit(module, ckpt_path=ckpt_path, weights_only=True)
        return module, trainer

    return run
