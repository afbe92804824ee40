"""The synthetic images that methods under test are given."""

from functools import partial
from typing import Any

from omegaconf import OmegaConf

from ddist.synthetic import Pixel
from ddist.tasks.config import conf_dir


def pixel(**changes: Any) -> partial[Pixel]:
    """Return what makes them, by conf/synthetic/pixel.yaml but for ``changes``."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "synthetic" / "pixel.yaml"))
    del settings["_target_"]
    return partial(Pixel, **settings | changes)
