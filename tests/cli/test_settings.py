"""task=settings: what a run's settings are, mean and come from; and docs/settings.md."""

from pathlib import Path

import pytest

from ddist.cli.reference import reference
from ddist.cli.sources import comments, heading
from ddist.tasks.config import register_resolvers

YAML = """# @package _global_
# What it is,
# in two lines.
defaults: [dc, _self_]
steps: 3 # outer # steps
method:
  # How far, and
  # how fast.
  lr: {images: "#1", labels: 2} # rates
  text: >-
    # no comment
  plain: 1
"""


def test_comments_are_those_of_the_line_or_of_the_lines_above() -> None:
    assert heading(YAML) == "What it is, in two lines."
    assert comments(YAML) == {
        "defaults": "", "steps": "outer # steps", "method": "", "method.lr": "rates",
        "method.lr.images": "rates", "method.lr.labels": "rates", "method.text": "",
        "method.plain": "",
    }  # fmt: skip
    assert comments(YAML.replace(" # rates", ""))["method.lr"] == "How far, and how fast."
    assert comments("# nothing\n") == {}


def shown(ddist, *words: str) -> dict[str, list[str]]:
    """The cells of each setting that the command prints."""
    done = ddist(*words, "task=settings", "hydra.run.dir=settings", COLUMNS="250")
    assert (done.code, done.err) == (0, ""), done.out
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in
             done.out.splitlines()]  # fmt: skip
    return {cells[0]: cells[1:] for cells in lines if cells}


def test_each_setting_is_shown_with_its_value_its_origin_and_its_meaning(ddist) -> None:
    mine = ddist.folder / "conf" / "recipe" / "dc" / "digits.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nmethod: {lr: {images: 2.0}, student_lr: 5}\n")
    found = shown(
        ddist, "--config-dir=conf", "method=dc", "ipc=12", "method.student_lr=7",
        "network=convnet_bn", "teacher=trained",
    )  # fmt: skip
    assert found["method"] == ["dc", "command line"]
    assert found["evaluation"] == ["short", "method _learned"]
    assert found["init"] == ["random", "default"]
    assert found["ipc"][:2] == ["12", "command line"]
    assert found["method.student_lr"][:2] == ["7", "command line"]
    rate = ["2.0", "recipe dc/digits", "of the outer optimizer, in standard deviations of a pixel"]
    assert found["method.lr.images"] == rate
    assert found["method.updates"][:2] == ["10", "method dc"]
    assert found["method.augment"][:2] == ["as augment", "method _matching"]
    assert found["init.scheme"][:2] == ["default", "method _matching"]
    assert "torch" in found["init.scheme"][2]  # as the file of init=random says
    assert found["network.norm"][:2] == ["batch", "network convnet_bn"]
    assert found["teacher.epochs"][:2] == ["20", "teacher _trained"]
    assert found["teacher.store"][:2] == ["false", "default"]
    assert not [name for name in found if "_target_" in name or "by_ipc" in name]


def test_settings_are_filtered_by_their_names(ddist) -> None:
    found = shown(ddist, "task.filter=method.lr")
    assert {name for name in found if "." in name} == {
        "method.lr.images", "method.lr.labels", "method.lr.step_sizes",
    }  # fmt: skip
    done = ddist("task=settings", "task.filter=nothing")
    assert done.code == 1 and "No setting's name contains 'nothing'" in done.err


@pytest.mark.docs
def test_the_page_of_settings_is_of_today() -> None:
    register_resolvers()
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == reference(), "ddist task=settings task.page=docs/settings.md"
