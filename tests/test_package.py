"""The wheel works by itself: built, installed without the checkout, run from another folder."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("ddist-*.whl")
    return path


@pytest.fixture(scope="module")
def ddist(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``ddist`` command of a fresh environment that holds the wheel alone.

    The dependencies come from this environment by a .pth file, so that nothing is downloaded. The
    .pth files in there are not read in turn, so that its editable install of ddist stays unseen.
    """
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home)}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return home / "bin" / "ddist"


def run(command: list[str | Path], cwd: Path) -> str:
    """The command's standard output; its errors are shown where it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DDIST"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_program_its_configs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ddist/cli/main.py", "ddist/conf/config.yaml", "ddist/conf/hydra/default.yaml"} <= set(
        names
    )
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ddist"}
    in_checkout = {p.relative_to(ROOT) for p in (ROOT / "conf").rglob("*.yaml")}
    in_checkout |= {p.relative_to(ROOT / "ddist") for p in (ROOT / "ddist").rglob("*.yaml")}
    assert "ddist/report/page.html" in names
    assert {Path(n).relative_to("ddist") for n in names if n.endswith(".yaml")} == in_checkout


def test_installed_without_the_checkout_it_composes_its_config(ddist: Path, tmp_path: Path) -> None:
    where = "import ddist; print(ddist.__file__)"
    location = Path(run([ddist.with_name("python"), "-c", where], cwd=tmp_path).strip())
    assert ddist.parents[1] in location.parents
    assert "dataset:" in run([ddist, "--cfg", "job"], cwd=tmp_path)


def test_installed_without_the_checkout_it_distils(ddist: Path, tmp_path: Path) -> None:
    run([ddist, "steps=2", "hydra.run.dir=run"], cwd=tmp_path)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["steps"] == 2
    assert 0 < results["evaluation"][0]["accuracy_mean"] <= 1
    assert (tmp_path / "run" / "distilled" / "grid.png").stat().st_size > 0
