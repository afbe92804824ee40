"""The entry point: composes the config, hands it to the task, and turns mistakes into sentences."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from ddist import __version__
from ddist.cli import sweep
from ddist.cli.allocator import keep_freed_memory
from ddist.cli.explain import explain
from ddist.cli.help import FLAGS, help_text
from ddist.cli.job_config import JobConfigLoader
from ddist.cli.threads import wait_briefly
from ddist.cli.validate import check_config
from ddist.errors import DdistError
from ddist.stages.stopping import exit_status, farewell, leave_quickly, stop_on_signals
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.jobs import is_job, note_failure, note_success
from ddist.tasks.names import option_of, words
from ddist.tasks.processes import check_common_folder, first_process
from ddist.tasks.recipes import install
from ddist.tasks.targets import make

log = logging.getLogger(__name__)

# In every process that has this module: a launcher's composes the config before it runs the job.
register_resolvers()
install(JobConfigLoader)
# conf/hydra/launcher and sweeper hold better defaults under the plugins' own names.
warnings.filterwarnings("ignore", message=r"\n'hydra/(launcher|sweeper)/\w+' is validated")

# They read what is there, without Lightning, which takes seconds to import.
LIGHT_TASKS = (
    "ddist.tasks.compare.run", "ddist.tasks.export.run", "ddist.tasks.page.run",
    "ddist.cli.settings.run", "ddist.tasks.sets.run",
)  # fmt: skip
# Lightning sets levels of its own on these as it is imported, over those of conf/hydra.
LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning_fabric")


class JobFailed(Exception):
    """A job of a sweep failed, and its log has said why."""


def main() -> NoReturn:
    """Run the console script ``ddist``, and exit."""
    wait_briefly()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors over instead of printing them
    sys.argv[1:] = without_dashes(sys.argv[1:])
    if "--version" in sys.argv[1:]:
        print(f"ddist {__version__} (torch {version('torch')}, Hydra {version('hydra-core')})")
        sys.exit(0)
    if any(flag in sys.argv[1:] for flag in FLAGS):
        try:
            print(help_text(sys.argv[1:]), flush=True)
        except DdistError as error:
            _leave(str(error), 1)
        except BrokenPipeError:  # head, or a pager, has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    _check_flags()
    try:
        check_common_folder(sys.argv[1:])
    except DdistError as error:
        _leave(str(error) if first_process() else "", 1)
    stop_on_signals()
    entry = hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(_job)
    said = ""
    try:
        entry()
    except KeyboardInterrupt as stop:
        for folder in sweep.folders:
            stop.add_note(
                f"the jobs so far are in {folder}, and the same command with "
                f"hydra.sweep.dir={folder} does what is missing"
            )
        status, said = exit_status(stop), farewell(stop)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except JobFailed:
        status = 1
        said = "A job of the sweep failed, for the reason said above; the others are complete."
    except Exception as error:
        if _debugging():
            raise
        typed = [word for word in sys.argv[1:] if not word.startswith("-")]
        overrides = [word for word in typed if "=" in word]  # not the "job" of --cfg job
        status, said = 1, explain(error, overrides)
    else:
        status = 0
    if sweep.folders and first_process():
        _conclude(sweep.folders[-1])
    _leave(said, status)


def without_dashes(words: Sequence[str]) -> list[str]:
    """Return ``words`` with settings as Hydra takes them, where they are written as agents of
    sweeps write them: ``--seed=1`` or ``--seed 1``. Flags of Hydra's, and what may be one, stay."""
    flags = get_args_parser()._option_string_actions
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or any(flag.startswith(f"--{name}") for flag in flags):
            plain.append(word)
        elif equals:
            plain.append(word.removeprefix("--"))
        elif rest and is_value(rest[0]):
            plain.append(f"{name}={rest.pop(0)}")
        else:
            plain.append(word)  # of which the parser says that nobody knows it
    return plain


def is_value(word: str) -> bool:
    """Tell whether ``word`` can be the value of the setting before it: it is neither a flag nor a
    setting of its own."""
    negative = word[:1] == "-" and word[1:2].isdecimal()
    return "=" not in word and (negative or not word.startswith("-"))


def _conclude(folder: Path) -> None:
    """Print and write the tables of a sweep, however it ended."""
    from ddist.tasks.sweep import conclude

    try:
        if folder.exists():
            conclude(folder, print)
    except DdistError as error:
        print(f"ddist: {error}", file=sys.stderr)


def _check_flags() -> None:
    """Exit with a sentence, in place of Hydra's usage, for a word that Hydra does not know."""
    parser = get_args_parser()

    def complain(message: str) -> NoReturn:
        said = message[:1].upper() + message[1:]
        _leave(
            f"{said}: settings are written as key=value (or --key=value), and flags such as --cfg "
            "job come after them; see --hydra-help.",
            2,
        )

    parser.error = complain  # type: ignore[method-assign]
    parser.parse_args()


def _job(cfg: DictConfig) -> float | None:
    """Run one task. In a sweep a failure is logged at once and the next job goes on."""
    _prepare_process()
    job = Path(cfg.paths.run) if is_job() and first_process() else None
    try:
        if job:
            note_failure(job)
        _check_settings(cfg)
        result: float | None = make(cfg.task, cfg)
        if job:
            note_success(job)
        return result
    except Exception as error:
        if _debugging():
            raise
        sentence = explain(error, words())
        log.error("ddist: %s", sentence)
        if is_job():
            if job:
                note_failure(job, sentence)
            raise JobFailed from None
        # Past Hydra, which would print the overrides and a traceback around it.
        sys.exit(1)


def _prepare_process() -> None:
    """Set up a process that runs jobs, also one that a launcher has started."""
    # Lightning 2.6 on torch 2.15 warns about a name of its own that nobody here can change.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # A run by itself is no mistake on a machine that has SLURM.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what it says is said once, by us
    keep_freed_memory()
    stop_on_signals()


def _check_settings(cfg: DictConfig) -> None:
    light = OmegaConf.select(cfg, "task._target_") in LIGHT_TASKS
    if not light:
        if "pytorch_lightning" not in sys.modules and first_process():
            log.info("Loading PyTorch.")  # seconds, after which a run speaks of itself
        _check_torchvision()
    levels = {name: logging.getLogger(name).level for name in LIGHTNING_LOGGERS}
    experiment = option_of("experiment")
    check_config(cfg, light=light, experiment="" if experiment == "None" else experiment)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _check_torchvision() -> None:
    try:
        import_module("torchvision")
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
    if sentence:
        print(f"ddist: {sentence}", file=sys.stderr)
    if status > 128:  # a signal's, after which a cluster kills
        leave_quickly(status)
    sys.exit(status)
