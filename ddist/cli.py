"""The entry point: composes the config, hands it to the task, and turns mistakes into sentences."""

import logging
import os
import sys
import warnings
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ddist.allocator import keep_freed_memory
from ddist.config import conf_dir, register_resolvers
from ddist.errors import DdistError
from ddist.mistakes import explain

log = logging.getLogger(__name__)


def main() -> None:
    """The console script ``ddist``; never returns."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors over instead of printing them
    # Lightning 2.6 on torch 2.15 warns about a name of its own that nobody here can change.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    keep_freed_memory()
    register_resolvers()
    entry = hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(_job)
    try:
        entry()
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except Exception as error:
        if _debugging():
            raise
        _fail(explain(error), 1)
    sys.exit(0)


def _job(cfg: DictConfig) -> float | None:
    """One run. In a sweep a failure is logged at once and the next job goes on."""
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        _check_torchvision()
        task = hydra.utils.instantiate(cfg.task)
        result: float | None = task(cfg)
        return result
    except Exception as error:
        if _debugging():
            raise
        if sweeping:
            log.error("%s", explain(error))
            raise DdistError(explain(error)) from error
        # Past Hydra, which would print the overrides and a traceback around it.
        _fail(explain(error), 1)
        raise AssertionError from error


def _check_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        import torch

        raise DdistError(
            f"torch {torch.__version__} and the installed torchvision do not match ({error}): "
            "install both from the same place, for example pip install --force-reinstall "
            "torch torchvision."
        ) from error


def _debugging() -> bool:
    return os.environ.get("DDIST_DEBUG", "") not in ("", "0")


def _fail(sentence: str, status: int) -> Any:
    print(f"ddist: {sentence}", file=sys.stderr)
    sys.exit(status)
