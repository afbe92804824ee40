"""Random command lines, of which scripts/random_commands.py tries any number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "scripts" / "random_commands.py"


def test_random_command_lines_work_or_end_in_a_sentence() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DDIST_", "WANDB_"))}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--num", "30", "--seed", "2"],
        capture_output=True, text=True, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 command lines" in done.stdout and "0 are faults" in done.stdout
