"""docs/results.md holds the figures of docs/results/*.jsonl."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    spec = importlib.util.spec_from_file_location("results", ROOT / "scripts" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_hold_what_the_kept_runs_say(script: ModuleType) -> None:
    found = script.compared_runs()
    assert found.problems == []
    for file, text in script.pages(found).items():
        assert file.read_text() == text, "python scripts/results.py write"
    written = (ROOT / "docs" / "results.md").read_text()
    assert written.count("\n## ") > 6 and written.count("**Protocol") > 20


def test_a_changed_figure_changes_both_pages(script: ModuleType) -> None:
    found = script.compared_runs()
    (row,) = [r for r in found.tables["dc2021_dsa"] if (r.first.method, r.first.ipc) == ("dm", 10)
              and r.first.dataset == "mnist" and r.network == "convnet 128"]  # fmt: skip
    changed = replace(row.first, accuracy=replace(row.first.accuracy, mean=0.5))
    row.figures[0] = changed
    texts = script.pages(found)
    assert all("**50.0" in texts[ROOT / name] for name in ("README.md", "docs/results.md"))


def test_a_run_is_kept_as_one_line_and_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (ROOT / "docs" / "results" / "digits.jsonl").read_text().splitlines()[0]
    record = json.loads(line)
    origin = {key: record.pop(key) for key in ("name", "command", "commit", "machine")}
    record["provenance"] |= origin | {"command": "ddist ipc=1"}
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(script, "RUNS", tmp_path / "kept")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    for seconds in (1.0, 2.0):
        record["cost"]["distill_seconds"] = seconds
        (folder / "results.json").write_text(json.dumps(record))
        script.keep([folder])
    (kept,) = (tmp_path / "kept" / "digits.jsonl").read_text().splitlines()
    assert list(json.loads(kept))[:3] == ["name", "command", "commit"]
    assert (json.loads(kept)["command"], json.loads(kept)["cost"]["distill_seconds"]) == (
        "ddist ipc=1",
        2.0,
    )
