"""The entry point: composes the config, hands it to the task, and turns mistakes into sentences."""

import logging
import os
import sys
import warnings
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ddist.allocator import keep_freed_memory
from ddist.config import conf_dir, register_resolvers, to_plain
from ddist.errors import DdistError
from ddist.kinds import check_kinds
from ddist.mistakes import explain
from ddist.tasks.names import words

log = logging.getLogger(__name__)


class JobFailed(Exception):
    """A job of a sweep failed, and its log has said why."""


def main() -> NoReturn:
    """The console script ``ddist``; never returns."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors over instead of printing them
    _check_flags()
    register_resolvers()
    entry = hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(_job)
    try:
        entry()
    except KeyboardInterrupt:
        _leave("Interrupted.", 130)
    except JobFailed:
        _leave("A job of the sweep failed, for the reason said above; the others are complete.", 1)
    except Exception as error:
        if _debugging():
            raise
        typed = [each for each in sys.argv[1:] if not each.startswith("-")]
        overrides = [each for each in typed if "=" in each]  # not the "job" of --cfg job
        _leave(explain(error, overrides), 1)
    sys.exit(0)


def _check_flags() -> None:
    """Leave with a sentence, and not with Hydra's usage, where it would not know a word."""
    parser = get_args_parser()

    def complain(message: str) -> NoReturn:
        said = message[:1].upper() + message[1:]
        _leave(f"{said}: flags such as --cfg job come after all settings; see --hydra-help.", 2)

    parser.error = complain  # type: ignore[method-assign]
    parser.parse_args()


def _job(cfg: DictConfig) -> float | None:
    """One run. In a sweep a failure is logged at once and the next job goes on."""
    _prepare_process()
    try:
        _check_torchvision()
        _check_settings(cfg)
        task = hydra.utils.instantiate(cfg.task)
        result: float | None = task(cfg)
        return result
    except Exception as error:
        if _debugging():
            raise
        log.error("ddist: %s", explain(error, words()))
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise JobFailed from None
        # Past Hydra, which would print the overrides and a traceback around it.
        sys.exit(1)


def _prepare_process() -> None:
    """What every process that runs jobs needs, also the ones that a launcher starts."""
    # Lightning 2.6 on torch 2.15 warns about a name of its own that nobody here can change.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    keep_freed_memory()
    register_resolvers()


def _check_settings(cfg: DictConfig) -> None:
    from ddist.tasks.checks import check_values  # imports torch, which --help does without

    check_values(cfg)
    check_kinds(to_plain(cfg))


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


def _leave(sentence: str, status: int) -> NoReturn:
    print(f"ddist: {sentence}", file=sys.stderr)
    sys.exit(status)
