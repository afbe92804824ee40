"""The lowest versions: that pyproject.toml promises those that `make test-oldest` tests.

CI has no time for a second torch. What torch 2.9 lacks of later ones is in two places, each of
which is tested with any torch: the arguments of torch.compile (tests/inner/test_compiled.py) and
the derivative of grid_sample's derivative (tests/augment/test_sampling.py).
"""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_the_lowest_promised_versions_are_the_tested_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints-oldest.txt").read_text(), re.M)
    )
    for requirement in map(Requirement, project["dependencies"]):
        tested = Version(pinned[requirement.name])
        assert tested in requirement.specifier, requirement
        (floor,) = (Version(s.version) for s in requirement.specifier if s.operator == ">=")
        # 2.9.1 is tested for 2.9: of a release's corrections, the last.
        assert tested.release[: len(floor.release)] == floor.release, requirement


def test_only_known_places_ask_for_what_older_torch_lacks() -> None:
    """Elsewhere neither is called: whoever does it has to see to torch 2.9."""
    lacking = {
        "torch.compile(": {"ddist/inner/compiled.py"},
        "grid_sample(": {"ddist/augment/sampling.py"},
    }
    for words, places in lacking.items():
        found = {
            str(file.relative_to(ROOT))
            for file in (ROOT / "ddist").rglob("*.py")
            if words in file.read_text()
        }
        assert found == places, words
