"""Explain errors of Hydra, OmegaConf and torch in one sentence to whoever typed the command."""

import errno
import re
from collections.abc import Sequence

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from ddist.cli.suggest import (
    did_you_mean,
    is_sweep,
    known_groups,
    known_settings,
    near,
    parse,
    unknown_option,
)
from ddist.errors import DdistError, chain, in_own_code
from ddist.tasks.config import composed_apart
from ddist.tasks.recipes import NONE

PLUGINS = {
    "hydra_joblib_launcher": ("joblib", "launchers"),
    "hydra_submitit_launcher": ("submitit", "launchers"),
    "hydra_optuna_sweeper": ("optuna", "optuna"),
    "hydra_ray_launcher": ("ray", "ray"),
}
"""What is missing, and the extra that has it, by the module that Hydra would need."""

LOST_JOB = {"TerminatedWorkerError", "UncompletedJobError", "FailedJobError", "WorkerCrashedError"}
"""Errors that joblib, submitit and Ray raise for a job that was killed."""

LACKING = r"can't allocate memory|not enough memory|cannot allocate memory|out of memory"

LOST_RANK = r"gloo.*(connection|timed out|timeout)|nccl.*(timeout|remote)|connection (closed|reset)"


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """Return one sentence for ``error``, which came of the command line's ``overrides``: what is
    wrong and, where it is known, what to do."""
    overrides = [NONE if word == "recipe=null" else word for word in overrides]
    try:
        return sentence(error, overrides)
    except OverrideParseException as unread:  # something was found wrong before all were read
        return sentence(unread, overrides)


def sentence(error: BaseException, overrides: Sequence[str]) -> str:
    """Return that sentence. Raise an OverrideParseException for an override that is unreadable."""
    for cause in chain(error):
        if isinstance(cause, DdistError):
            return one_line(str(cause))
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return "The disk is full: make room, then repeat the command to go on from there."
        if is_out_of_memory(cause):
            return (
                f"Out of memory ({first_line(cause)}): try a smaller dataset.size, network.width, "
                "method.batch_real or ipc."
            )
        if isinstance(cause, YAMLError):
            return f"A YAML file cannot be read: {one_line(str(cause))}."
    if lost := lost_process(error):
        return lost
    if isinstance(error, OverrideParseException):
        quoted = "; values of unusual characters need quotes of their own, 'key=\"…\"'"
        hint = quoted if "=" in error.override else ""
        return f"Could not read {error.override!r}: write group=option or key=value{hint}."
    if isinstance(error, (MissingConfigException, ConfigCompositionException)):
        return missing_plugin(error) or ambiguous(error, overrides) or composition(error, overrides)
    if isinstance(error, MissingMandatoryValue):
        return f"A value is missing: {error.full_key or first_line(error)}."
    return (
        missing_plugin(error)
        or unreached_cluster(error)
        or no_option(str(error), overrides)
        or unexplained(error, overrides)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: a GPU's, Python's, NumPy's or torch's on a CPU, whose allocator
    raises a plain RuntimeError, or the system's."""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(re.search(LACKING, str(error), re.I))


def lost_process(error: BaseException) -> str:
    """Return a sentence where a process of a distributed run has gone, or one of a sweep's jobs;
    else an empty string."""
    for cause in chain(error):
        if type(cause).__name__ in LOST_JOB:
            return f"A job's process has ended before its job: {first_line(cause)}."
        if re.search(LOST_RANK, str(cause), re.I):
            return (
                "Another process of this run has ended or does not answer "
                f"({first_line(cause)}): the same command with the same hydra.run.dir goes on from "
                "the last checkpoint."
            )
    return ""


def missing_plugin(error: BaseException) -> str:
    """Return a sentence where a launcher or sweeper of Hydra is missing; else an empty string."""
    text = str(error)
    for module, (what, extra) in PLUGINS.items():
        if module in text or re.search(rf"Could not find 'hydra/(launcher|sweeper).*{what}", text):
            return f"{what} is not installed here: pip install 'ddist[{extra}]'."
    return ""


def unreached_cluster(error: BaseException) -> str:
    """Return a sentence where a Ray cluster does not answer, or not to those without its token;
    else an empty string."""
    for cause in chain(error):
        if isinstance(cause, ConnectionError) and re.search(r"\bray\b", str(cause), re.I):
            return (
                f"No Ray cluster was reached: {first_line(cause)}. Does it run (ray status)? One "
                "that was started with a token wants RAY_AUTH_MODE=token in the environment."
            )
    return ""


def ambiguous(error: BaseException, overrides: Sequence[str]) -> str:
    """Return a sentence where a setting has several values and no sweep; else an empty string."""
    text = str(error)
    ambiguous_value = re.search(r"Ambiguous value for argument '([^'=]+)=", text)
    named = ambiguous_value or re.search(r"'([^'=]+)=.*requires --multirun", text)
    if not named:
        return ""
    try:  # a preset of sweep says that it is one, unless another mistake keeps it from being read
        composed_apart([word for word in overrides if not is_sweep(word)])
    except Exception as other:
        return explain(other, overrides)
    return (
        f"{named[1]} has several values: put -m before them for a sweep, or quotes around a value "
        "that has commas."
    )


def composition(error: BaseException, overrides: Sequence[str]) -> str:
    """Return a sentence for an unknown group, option or key, with the nearest known name."""
    text = str(error)
    if said := no_option("must be a string", overrides):
        return said
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        known = re.findall(r"^\t([^_\s]\S*)$", text, re.M)
        return unknown_option(option[1], option[2], known)
    if key := re.search(r"Could not (?:override|delete from config\.) '?([^'\s]+)'", text):
        name = key.group(1)
        hint = did_you_mean(near(name, known_settings(overrides)))
        group = name.partition(".")[0]
        words = [word.partition("=")[0] for word in overrides]
        if "artifact" in words and group in known_groups() and group not in words:
            return (
                f"Unknown option {name!r}{hint}: to change a setting of the set's own {group}, "
                f"name that too, {group}=NAME {name}=VALUE."
            )
        return f"Unknown option {name!r}{hint}: ddist --cfg job lists all of them."
    return f"The configuration does not work: {first_line(error)}."


def no_option(text: str, overrides: Sequence[str]) -> str:
    """Return a sentence where a group is set to anything but a name; else an empty string."""
    if "must be a string" not in text:
        return ""
    groups = known_groups()
    choices = [(key, choice) for key, choice in parse(overrides, deletions=True) if key in groups]
    wrong = next(
        (key for key, choice in choices if not isinstance(choice, str) or "${" in choice), None
    )
    if wrong is None and "Config group override" not in text:
        return ""
    return f"{wrong or 'A group'} takes the name of one of its options: ddist --help lists them."


def unexplained(error: BaseException, overrides: Sequence[str]) -> str:
    """Return a sentence for an error that nothing else explains."""
    of_hydra = [word for word in overrides if word.startswith(("hydra/", "hydra."))]
    if of_hydra and not isinstance(error, OmegaConfBaseException):
        return f"Hydra cannot work with {' '.join(of_hydra)}: {first_line(error)}."
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        said = next((e for e in chain(error) if isinstance(e, OmegaConfBaseException)), None)
        place = getattr(said, "full_key", None)
        cause = resolution(said or list(chain(error))[-1])
        return f"The configuration does not work{f' at {place}' if place else ''}: {cause}."
    name, text = type(error).__name__, first_line(error)
    if place := in_own_code(error):
        return f"{place}: {name}: {text} (DDIST_DEBUG=1 shows more)."
    return f"Internal error, {name}: {text} (DDIST_DEBUG=1 shows where; please report it)."


def resolution(error: BaseException) -> str:
    """Return an error's first line, without the type of the error that an interpolation met."""
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", first_line(error))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def one_line(text: str) -> str:
    """Return ``text``, which may quote another library's lines, as one line."""
    return " ".join(text.split())
