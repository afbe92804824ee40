"""Where a run's figures come from: its command, the code that ran, and the machine."""

import platform
import shlex
import subprocess
from functools import cache
from pathlib import Path

import torch

import ddist
from ddist.tasks.names import words
from ddist.tasks.recipes import NONE


def command() -> str:
    """Return the command line that chose the settings of this run, of a sweep's job its own."""
    return shlex.join(["ddist", *("recipe=null" if word == NONE else word for word in words())])


@cache
def commit() -> str | None:
    """Return the commit of the checkout that ddist runs from, with ``+`` where files differ from
    it; None for an installed package."""
    root = Path(ddist.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip() or None


@cache
def machine() -> str:
    """Return the processor's name with the threads in use, and the GPU's where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {threads} thread{'s' * (threads > 1)}{gpu}"
