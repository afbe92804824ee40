"""scripts/gpu.sh: a dry run on CPUs; that it goes on where it was, and keeps to its time."""

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu.sh"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """``module(name)``: one of scripts/gpu, which are imported by their own names there."""
    for folder in (ROOT / "scripts", ROOT / "scripts" / "gpu"):
        monkeypatch.syspath_prepend(str(folder))
    names = {file.stem for file in (ROOT / "scripts" / "gpu").glob("*.py")} | {"bench"}
    for name in names & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    return import_module


def script(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """``scripts/gpu.sh`` with these words, by the tests' Python unless ``env`` has another."""
    known = {key: value for key, value in os.environ.items() if key not in ("OUT", "DDIST_DATA")}
    known |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CIFAR10_PARTS": "nowhere", **env}
    return subprocess.run(
        ["bash", str(SCRIPT), *words], env=known, capture_output=True, text=True, timeout=300
    )


def test_a_dry_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Parity, speed and the run of mtt at a tiny size; then nothing of them is left to do."""
    where = {"RESULTS": str(tmp_path / "results"), "OUT": str(tmp_path / "out")}
    words = ["--cpu", "5", "--stages", "parity", "speed", "mtt", "--families", "dm"]
    words += ["--items", "dm ddist", "dm plain"]
    first = script(*words, **where)
    assert first.returncode == 0, first.stdout + first.stderr
    files = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert files.keys() == {"parity.json", "speed.json", "mtt.json", "table.txt"}
    parity, speed, mtt = (json.loads(files[f"{name}.json"]) for name in ("parity", "speed", "mtt"))
    assert 0 < parity["dm"]["gradient"] < 1e-4 and parity["dm"]["passed"]
    assert all(speed[item]["seconds"] > 0 for item in ("dm ddist", "dm plain"))
    assert mtt["finished"] and mtt["steps"] == 3 and mtt["experts"] == 1
    assert "3 steps" in files["table.txt"]
    second = script(*words, **where)
    assert second.returncode == 0 and "==" not in second.stdout
    assert "3 steps" in second.stdout


def call(module: Callable[[str], Any], folder: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "deadline": time.time() + 60, "results": folder, "data": folder / "data", "device": "cuda",
        "stages": [], "families": ["dm", "dc"], "items": [],
    }  # fmt: skip
    return module("call").Call(**options | changes)


def test_a_process_is_interrupted_and_then_killed(module: Callable[[str], Any]) -> None:
    run = module("call").run
    assert run([sys.executable, "-c", "print(1); exit(3)"], 30) == (3, "1\n")
    ready = (
        "import time; print(1, flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print(2)"
    )
    start = time.monotonic()
    assert run([sys.executable, "-c", ready], 3) == (None, "1\n2\n")
    module("call").SECONDS_TO_END = 1
    deaf = "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)"
    assert run([sys.executable, "-c", deaf], 2)[0] is None
    assert time.monotonic() - start < 30


def test_what_failed_is_done_again_and_makes_the_call_fail(
    module: Callable[[str], Any], tmp_path: Path
) -> None:
    stages, one = module("stages"), call(module, tmp_path)
    one.write("parity", {"dm": {"gradient": 0.0, "passed": True}, "dc": {"error": "no memory"}})
    assert one.items_left("parity") == ["dc"] and not stages.finished("parity", one)
    assert not stages.sound(one)
    one.write("parity", {name: {"gradient": 0.0, "passed": True} for name in ("dm", "dc")})
    assert stages.finished("parity", one) and stages.sound(one)
    one.write("parity", {name: {"gradient": 1.0, "passed": False} for name in ("dm", "dc")})
    assert not stages.sound(one)


@pytest.mark.parametrize(
    ("code", "printed", "summary", "failed"),
    [
        (0, "..s\n3 passed, 1 skipped in 2.10s\n", "3 passed, 1 skipped", []),
        (1, "FAILED a.py::test_x - E\n1 failed, 2 passed in 3s\n", "1 failed, 2 passed",
         ["a.py::test_x - E"]),
        (None, "..", "out of time", []),
    ],
)  # fmt: skip
def test_marked_tests_are_run_and_counted(
    module: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int | None,
    printed: str,
    summary: str,
    failed: list[str],
) -> None:
    stages, one, commands = module("stages"), call(module, tmp_path), []

    def run(command: list[str], seconds: float) -> tuple[int | None, str]:
        commands.append(command)
        return code, printed

    monkeypatch.setattr(stages, "run", run)
    stages.tests(one, 5)
    assert {"tests/test_gpu.py", "tests/test_seeding.py"} <= set(commands[0])
    found = one.read("tests")
    assert (found["summary"], found["failed"]) == (summary, failed)
    assert found["finished"] == stages.finished("tests", one) == (code == 0)


def test_without_cifar10_the_run_waits(module: Callable[[str], Any], tmp_path: Path) -> None:
    stages, one = module("stages"), call(module, tmp_path)
    stages.mtt(one, 5)
    assert "not whole" in one.read("mtt")["waits"] and stages.sound(one)
    assert not stages.finished("mtt", one)
    assert "not whole" in module("tables").mtt_line(one.read("mtt"))


def test_as_many_experts_as_fit(module: Callable[[str], Any], tmp_path: Path) -> None:
    stages, one = module("stages"), call(module, tmp_path)
    assert stages.num_experts(one, 300) == 3  # nothing is known of the machine
    one.write("speed", {"experts ddist": {"seconds": 0.02}})
    assert stages.num_experts(one, 300) == int(100 / (4 * 196 * 0.02)) == 6
    assert stages.num_experts(one, 3) == 1
    one.write("speed", {"experts ddist": {"seconds": 0.001}})
    assert stages.num_experts(one, 300) == 20


def test_a_gradient_that_is_another_is_found(
    module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parity, plan = module("parity"), module("plan")
    error = {"cpu": 0.0, "other": 0.0}

    def one_step(cfg: Any, setting: Any, device: str, precision: str) -> Any:
        factor = 1 + error["other" if device == "cuda" else "cpu"]
        return SimpleNamespace(gradients=[factor * torch.ones(3)], loss=torch.ones(()))

    monkeypatch.setattr(parity, "one_step", one_step)
    setting = plan.Setting("cuda", tmp_path, tiny=True)
    assert parity.compare("dm", setting)["passed"]
    error["other"] = 2e-4
    found = parity.compare("dm", setting)
    assert not found["passed"] and found["gradient"] == pytest.approx(2e-4, rel=1e-3)
    assert parity.distance([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 0.0])]) == 4 / 3


def test_parts_of_cifar10_are_taken_as_they_come(tmp_path: Path) -> None:
    """One part a call; a damaged one is left for a later call."""
    parts, data = tmp_path / "parts", tmp_path / "data"
    parts.mkdir()
    where = {"PYTHON": "true", "CIFAR10_PARTS": str(parts), "DDIST_DATA": str(data)}
    for number in (1, 2, 3):
        archive = parts / f"cifar10-part{number}.tar.xz"
        archive.write_bytes(b"no archive")
        done = script("--cpu", **where)
        assert done.returncode == 0 and f"part{number}.tar.xz cannot be unpacked" in done.stderr
        inside = tmp_path / f"data_batch_{number}"
        inside.write_text(str(number))
        with tarfile.open(archive, "w:xz") as file:
            file.add(inside, f"cifar-10-batches-py/{inside.name}")
        done = script("--cpu", **where)
        assert (done.returncode, done.stderr) == (0, "")
        archive.unlink()
        assert len(list((data / "cifar-10-batches-py").iterdir())) == number


def test_what_is_missing_is_named(
    module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra from the folder, torch from nowhere, wandb not at all."""
    needs = module("needs")
    names = {each.name for each in needs.requirements()}
    assert {"torch", "hydra-core", "pytest"} <= names
    assert all(map(needs.is_met, needs.requirements()))
    monkeypatch.setattr(needs, "is_met", lambda each: each.name not in ("hydra-core", "wandb"))
    with pytest.raises(SystemExit, match="wheels lacks some of it"):
        commands: list[tuple[str, ...]] = []

        def pip(*arguments: str, quiet: bool = False) -> Any:
            commands.append(arguments)
            return SimpleNamespace(returncode=1, stderr="ERROR: none found", stdout="")

        monkeypatch.setattr(needs, "pip", pip)
        needs.install(tmp_path / "wheels", tmp_path / "site")
    (command,) = commands
    assert "--no-index" in command and "--dry-run" in command
    assert [word for word in command if "hydra" in word] and "wandb" not in " ".join(command)
    monkeypatch.setattr(needs, "is_met", lambda each: each.name != "torch")
    with pytest.raises(SystemExit, match="lacks torch"):
        needs.install(tmp_path / "wheels", tmp_path / "site")
