"""Processes that torchrun or SLURM have started for one run, each of which is a rank of it."""

import os
from collections.abc import Iterable, Mapping

from ddist.errors import DdistError


def num_started(env: Mapping[str, str] = os.environ) -> int | None:
    """Return how many torchrun or SLURM has started; None where Lightning is to start them."""
    if "TORCHELASTIC_RUN_ID" in env:  # torchrun's
        return int(env["WORLD_SIZE"])
    if "SLURM_PROCID" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # srun's
        tasks = int(env.get("SLURM_NTASKS", "1"))
        return tasks if tasks > 1 else None
    return None


def first_process(env: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process writes and speaks for the whole run."""
    if num_started(env) is not None:
        return int(env.get("RANK", env.get("SLURM_PROCID", "0"))) == 0
    return env.get("LOCAL_RANK", "0") == "0" and env.get("NODE_RANK", "0") == "0"


def check_common_folder(words: Iterable[str], env: Mapping[str, str] = os.environ) -> None:
    """Raise a DdistError where the processes of one run would each make a folder of their own, with
    the time in its name."""
    number = num_started(env)
    named = any(word.startswith(("hydra.run.dir=", "hydra.sweep.dir=", "-")) for word in words)
    if number is not None and number > 1 and not named:
        raise DdistError(
            f"{number} processes were started for one run: name the folder that they share, "
            "hydra.run.dir=FOLDER."
        )


def check_all_taken(devices: object, num_nodes: int, env: Mapping[str, str] = os.environ) -> None:
    """Raise a DdistError where more or fewer processes were started than take part in the run: each
    would do the whole of it by itself."""
    number = num_started(env)
    if number is not None and str(devices).isdigit() and number != int(str(devices)) * num_nodes:
        raise DdistError(
            f"{number} processes were started, but trainer.devices={devices} and "
            f"trainer.num_nodes={num_nodes} make {int(str(devices)) * num_nodes}: set "
            "trainer.devices to those of a node, and trainer=ddp."
        )
