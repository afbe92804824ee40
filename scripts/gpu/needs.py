"""What ddist needs and this Python lacks, and a folder of wheels that has it. No ddist, no network.

python needs.py fill WHEELS           download them (this needs the network)
python needs.py install WHEELS SITE   install what is missing from WHEELS into the folder SITE
"""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

try:
    from packaging.requirements import Requirement
except ModuleNotFoundError:  # on a bare machine pip has one of its own
    from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LARGE = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib", "pillow", "wandb")
"""Not in the folder: where there is a torch for GPUs, there are these; and nothing here asks for
wandb, which ddist imports where a run is to be shown there."""
INDIRECT = (
    "antlr4-python3-runtime", "iniconfig", "lightning-utilities", "markdown-it-py", "markupsafe",
    "mdurl", "packaging", "pluggy", "pygments",
)  # fmt: skip
"""What the small ones need in turn."""
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (17, 28)] + ["manylinux2014_x86_64"]
MOST_BYTES = 60 * 2**20


def requirements() -> list[Requirement]:
    """What the project asks for, and pytest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tests = [each for each in project["optional-dependencies"]["dev"] if each.startswith("pytest>")]
    return [Requirement(each) for each in (*project["dependencies"], *tests)]


def is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def pip(*arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, text=True, capture_output=quiet)


def fill(wheels: Path) -> None:
    """Download the small wheels, in the tested versions, for each Python that ddist runs on."""
    small = [each.name for each in requirements() if each.name.lower() not in LARGE]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    keys = {name.lower().replace("_", "-"): number for name, number in pinned.items()}
    wanted = [f"{name}=={keys[name.lower()]}" for name in (*small, *INDIRECT)]
    sources = [each for each in wanted if each.startswith("antlr4")]  # there is no wheel of it
    options = ["--no-deps", "--quiet"]
    assert pip("wheel", *options, "-w", str(wheels), *sources).returncode == 0
    for python in PYTHONS:
        where = [f"--platform={platform}" for platform in PLATFORMS]
        where += [f"--python-version={python}", "--implementation=cp", "--only-binary=:all:"]
        ready = [each for each in wanted if each not in sources]
        assert pip("download", *options, *where, "-d", str(wheels), *ready).returncode == 0
    size = sum(file.stat().st_size for file in wheels.iterdir())
    print(f"{wheels}: {len(list(wheels.iterdir()))} wheels, {size / 2**20:.1f} MiB")
    if size > MOST_BYTES:
        sys.exit(f"{wheels} is larger than {MOST_BYTES / 2**20:.0f} MiB.")


def install(wheels: Path, site: Path) -> None:
    """Install what is missing. Exits with a sentence where the folder lacks it."""
    missing = [each for each in requirements() if not is_met(each)]
    lacking = [each for each in missing if each.name in LARGE and each.name != "wandb"]
    if lacking:
        sys.exit(f"This Python lacks {', '.join(map(str, lacking))}, which is in no folder.")
    wanted = [str(each) for each in missing if each.name not in LARGE]
    if not wanted:
        print("Nothing that is needed is missing here.")
        return
    print(f"Missing here: {', '.join(str(each) for each in missing)}.")
    # pip finds out, beside what this Python has, what these need in turn; no more is installed.
    offline = ["--no-index", "--find-links", str(wheels)]
    look = ["install", "--quiet", "--dry-run", "--report", "-", *offline, *wanted]
    found = pip(*look, quiet=True)
    if found.returncode != 0:
        reason = [line for line in found.stderr.splitlines() if line.startswith("ERROR")]
        sys.exit(
            f"The folder {wheels} lacks some of it ({' '.join(reason)}): `scripts/gpu.sh wheels`, "
            "where there is a network, makes the folder."
        )
    report: dict[str, Any] = json.loads(found.stdout[found.stdout.index("{") :])
    parts = [each["metadata"] for each in report["install"]]
    chosen = [f"{each['name']}=={each['version']}" for each in parts]
    target = ["--quiet", "--no-deps", "--upgrade", "--target", str(site)]
    if pip("install", *target, *offline, *chosen).returncode != 0:
        sys.exit(f"{', '.join(chosen)} could not be installed into {site}.")
    print(f"Installed into {site}: {', '.join(chosen)}.")


if __name__ == "__main__":
    actions = {"fill": fill, "install": install}
    actions[sys.argv[1]](*map(Path, sys.argv[2:]))
