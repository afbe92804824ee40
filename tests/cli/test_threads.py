"""OpenMP's threads, which torch starts, wait awake for a moment only."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ddist.cli.threads import SPINS, wait_briefly

SCRIPT = """
import sys
sys.argv = ["ddist", "--version"]
from ddist.cli.main import main
try:
    main()
except SystemExit:
    import torch
"""


def uses_gnu_openmp() -> bool:
    spec = find_spec("torch")
    assert spec is not None and spec.origin is not None
    site = Path(spec.origin).parent
    return any(
        list(folder.glob("libgomp*")) for folder in (site / "lib", site.parent / "torch.libs")
    )


@pytest.mark.skipif(not uses_gnu_openmp(), reason="torch has another OpenMP here")
def test_torch_starts_with_what_the_command_says() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, env=env | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True
    )
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_says_stays(own: dict[str, str]) -> None:
    environment = dict(own)
    wait_briefly(environment)
    assert environment == own
