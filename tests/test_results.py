"""RESULTS.md's tables are those of the runs in .results."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(ROOT)  # below which the kept runs name each other
    spec = importlib.util.spec_from_file_location("results", ROOT / "scripts" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_results_are_those_of_the_kept_runs(script: ModuleType) -> None:
    _, written, _ = script.parts()
    assert written.strip() == script.section().strip(), "python scripts/results.py write"
    assert written.count("\n### ") >= 5 and written.count("\n| mnist |") > 30
