"""The commands that documents and scripts name compose."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ddist.tasks.config import composed_apart, register_resolvers

pytestmark = [
    pytest.mark.docs,
    pytest.mark.slow,
    # conf/hydra/launcher holds better defaults under the plugins' own names
    pytest.mark.filterwarnings("ignore:(?s).*is validated against ConfigStore schema:UserWarning"),
]

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PRESETS_IN_FILES = sorted((ROOT / "conf" / "experiment").rglob("*.yaml"))
SPAN = re.compile(r"`((?:ddist |experiment=)[^`]*)`")  # which may go on in the next line
LINE = re.compile(r"^(?:    |#   )(?:\w+=\S+ )?(?:torchrun .* -m |srun .* )?(ddist .*)$", re.M)
PLACES = re.compile(r"(artifact|path|runs|hydra\.\w+\.dir)=")  # which differ from reader to reader
OPEN = re.compile(r"[…<]|\.\.\.|=M\b|\bmine\b|mean_abs")  # what the reader fills in


def commands(file: Path) -> list[str]:
    """The words of the commands in a document, or of those in the head of a YAML file."""
    text = re.sub(r"\\\n\s*", "", file.read_text())
    found = [" ".join(span.split()) for span in SPAN.findall(text)] + LINE.findall(text)
    return list(dict.fromkeys(found))


def words(command: str) -> list[str]:
    """The settings that a command names, without places, and of several values the first. Nothing
    of a command that the reader completes."""
    read = shlex.split(re.split(r"\s#|  ", command)[0])
    given = [each for each in read if not PLACES.match(each)]
    if any(OPEN.search(each) for each in given):
        return []
    swept = re.compile(r"(?<==)(?![\['\"])([^,]*),.*")
    return [swept.sub(r"\1", each) for each in given if re.match(r"[\w./]+=", each)]


def check(given: list[str]) -> None:
    """Fail unless they compose, and what they say of a run is there."""
    register_resolvers()
    cfg = composed_apart(given)
    for name in ("steps", "dataset", "method", "network", "init", "evaluation", "synthetic"):
        part = cfg[name]
        if OmegaConf.is_config(part):
            OmegaConf.to_container(part, resolve=True)


@pytest.mark.parametrize("file", [*DOCUMENTS, *PRESETS_IN_FILES], ids=lambda file: file.stem)
def test_the_commands_of_a_document_compose(file: Path) -> None:
    for command in commands(file):
        try:
            check(words(command))
        except Exception as error:
            raise AssertionError(f"{file.name}: {command}") from error


@pytest.mark.parametrize("name", ["dd", "matching", "trajectories"])
def test_the_commands_of_a_script_compose(name: str, tmp_path: Path) -> None:
    script = ROOT / "scripts" / f"reproduce_{name}.sh"
    parts = re.findall(r"^    ([a-z_0-9 |]+)\)", script.read_text(), re.M)
    said = tmp_path / "said"
    for program, line in (("ddist", f'echo "$*" >>"{said}"'), ("python", "")):
        (tmp_path / program).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / program).chmod(0o755)
    names = [part for each in parts for part in each.split(" | ")]
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", script, *names], check=True, env=os.environ | {"PATH": path})
    lines = said.read_text().splitlines()
    assert len(lines) >= len(names)
    for line in dict.fromkeys(" ".join(words(line)) for line in lines):
        check(line.split())
