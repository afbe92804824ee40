"""Random command lines, of which scripts/random_commands.py tries any number."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "scripts" / "random_commands.py"
# In place of ddist, in a process that has imported already what the script imports.
RUN = f"""
import runpy, sys
sys.argv = [{str(SCRIPT)!r}, "--num", "30", "--seed", "2"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_random_command_lines_work_or_end_in_a_sentence(ddist: Any) -> None:
    done = ddist(before=RUN)
    assert done.code == 0, done.out + done.err
    assert "30 command lines" in done.out and "0 are faults" in done.out
