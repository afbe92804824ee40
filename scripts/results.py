"""The tables of RESULTS.md that come from runs, whose results.json are kept in .results.

python scripts/results.py keep FOLDER…   copy the results.json of runs, each in a folder of its own
python scripts/results.py write          write RESULTS.md's last section anew, by task=compare
"""

import json
import sys
from pathlib import Path
from typing import Any

from ddist.compare.sheet import markdown
from ddist.storage.signature import signature
from ddist.tasks.compare import compared

ROOT = Path(__file__).parents[1]
KEPT, PAGE = ROOT / ".results", ROOT / "RESULTS.md"
START, END = "<!-- python scripts/results.py write -->\n", "<!-- written -->\n"


def keep(folders: list[Path]) -> None:
    """Each run's results.json in a folder of its own. A set that was evaluated by itself names the
    run that distilled it by where that is kept."""
    for folder in folders:
        results = json.loads((folder / "results.json").read_text())
        target = KEPT / name_of(results)
        config = results["provenance"]["config"]
        source = Path(config.get("artifact") or folder).parent / "results.json"
        if source.exists():
            name = name_of(json.loads(source.read_text()))
            config["artifact"] = str(KEPT.relative_to(ROOT) / name / "distilled")
        target.mkdir(parents=True, exist_ok=True)
        (target / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def name_of(results: dict[str, Any]) -> str:
    """``mnist_10_ddoq_dc2021_0a1b2c3d``."""
    parts = (results[key] for key in ("dataset", "ipc", "method", "protocol"))
    return "_".join([*map(str, parts), signature(results["provenance"]["config"])[:8]])


def section() -> str:
    """What stands between ``START`` and ``END``."""
    found = compared([str(KEPT)], deviations=2.0, points=2.0, full=None)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    _, _, tables = markdown(found.sheets, found.notes).partition("\n")
    return tables.replace("\n## ", "\n### ").lstrip("\n")


def parts() -> tuple[str, str, str]:
    """RESULTS.md before, in and after its section."""
    before, start, rest = PAGE.read_text().partition(START)
    inside, end, after = rest.partition(END)
    return before + start, inside, end + after


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["keep", *folders] if folders:
            keep([Path(each) for each in folders])
        case ["write"]:
            before, _, after = parts()
            PAGE.write_text(f"{before}\n{section()}\n{after}")
        case _:
            sys.exit(__doc__)
