"""Several processes of one run, as conf/trainer/ddp.yaml wants them."""

from datetime import timedelta

from pytorch_lightning.strategies import DDPStrategy

from ddist.formatting import parse_duration


def ddp(timeout: str) -> DDPStrategy:
    """Return Lightning's DDP, in which a process that waits longer than ``timeout`` (``90s``,
    ``30m``) for another ends with an error."""
    return DDPStrategy(timeout=timedelta(seconds=parse_duration(timeout)))
