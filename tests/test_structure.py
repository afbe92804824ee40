"""The house: imports run one way, from words and tasks down to files and errors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddist

ROOT = Path(ddist.__file__).parent
# From the top down; packages of one line may import one another, without a circle of modules.
FLOORS = (
    "__main__",
    "cli",
    "tasks",
    "report compare exchange callbacks methods",
    "experts teachers generative evaluation init",
    "inner matching synthetic kernels networks augment objectives",
    "data",
    "artifact",
    "storage",
    "stages",
    "errors formatting seeding settings",
)
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor.split()}
FILES = sorted(file.relative_to(ROOT) for file in ROOT.rglob("*.py") if file.name != "__init__.py")


def imported(file: Path) -> Iterator[str]:
    """Yield the names of ddist's modules that ``file`` imports, also within functions and for
    types alone."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ddist":
            package = node.module or ""
            yield from (f"{package}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("ddist."))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down(file: Path) -> None:
    own = file.parts[0].removesuffix(".py")
    assert own in FLOOR, f"{file} has no floor: add its package to FLOORS"
    upwards = [
        name
        for name in imported(file)
        if (target := name.split(".")[1]) in FLOOR and FLOOR[target] < FLOOR[own]
    ]
    assert not upwards


def test_few_modules_lie_at_the_root() -> None:
    loose = {file.stem for file in ROOT.glob("*.py")}
    assert loose == {"__init__", "__main__", "errors", "formatting", "seeding"}


def test_tasks_do_not_import_one_another() -> None:
    """What ``ddist task=...`` can do stands in files that have a ``run(cfg, ...)``."""
    tasks = {
        f"ddist.tasks.{file.stem}": file
        for file in FILES
        if file.parent.name == "tasks"
        and re.search(r"^def run\(\s*cfg", (ROOT / file).read_text(), re.MULTILINE)
    }
    assert "ddist.tasks.distill" in tasks
    for file in tasks.values():
        assert not {name.rpartition(".")[0] for name in imported(file)} & tasks.keys(), file
