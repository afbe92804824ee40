"""A Trainer that fits and leaves nothing behind."""

from typing import Any

from pytorch_lightning import Trainer


def quiet_trainer(steps: int, **options: Any) -> Trainer:
    """``steps`` outer steps on the CPU, without files and bars."""
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
