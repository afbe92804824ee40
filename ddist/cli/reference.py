"""The page of all settings, docs/settings.md: options of groups, their keys, defaults and types."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf

from ddist.cli.sources import comments, heading
from ddist.cli.types import alternatives, describe_mismatch
from ddist.cli.validate import signature_of
from ddist.settings.groups import TABLES
from ddist.tasks.config import conf_dir, option_names, read_option

LEFT_OUT = ("hydra", "recipe", "experiment")  # no settings of their own
HEAD = """# Settings

Written by `ddist task=settings task.page=docs/settings.md` from the files in conf/, with types and
ranges from what takes the settings. `ddist task=settings …` shows the values of one run and where
each comes from.

A setting has its default here unless a recipe (conf/recipe), a preset (conf/experiment) or the
command line sets it. An option that starts from another one has that one's settings too.
"""
MADE = "what a _target_ makes"  # of parts, which settings of their own describe
COLUMNS = "| setting | default | takes | |\n|---|---|---|---|\n"


def reference() -> str:
    """Return the whole page."""
    text = (conf_dir() / "config.yaml").read_text()
    config = yaml.safe_load(text)
    groups = [name for entry in config["defaults"] if isinstance(entry, dict) for name in entry]
    groups = [name for name in groups if "recipe" not in name and name not in LEFT_OUT]
    sections = [HEAD, "## Single values, and what belongs to groups whatever their option\n"]
    sections.append(rows(comments(text), config, {}, ""))
    for group in groups:
        sections.append(f"## `{group}=`\n")
        private = sorted(file.stem for file in (conf_dir() / group).glob("_*.yaml"))
        sections += [option(group, name) for name in (*private, *option_names(group))]
    return "\n".join(sections)


def option(group: str, name: str) -> str:
    """Return the page's section on one option of a group."""
    file = conf_dir() / group / f"{name}.yaml"
    text = file.read_text()
    own = yaml.safe_load(text) or {}
    place = "" if text.startswith("# @package _global_") else f"{group}."
    made = {group: OmegaConf.to_container(read_option(group, name), resolve=False)}
    called = f"`{name}`, which others start from" if name[0] == "_" else f"`{group}={name}`"
    lines = [f"### {called}\n", f"{heading(text)}\n"]
    starts, chosen = choices(own.pop("defaults", []))
    if starts:
        lines.append(f"Starts from {', '.join(f'`{line}`' for line in starts)}.\n")
    if chosen:
        lines.append(f"Chooses {', '.join(f'`{line}`' for line in chosen)}.\n")
    said = {f"{place}{key}": meaning(group, name, f"{place}{key}") for key, _ in leaves(own)}
    lines.append(rows(said, own, made, place))
    return "\n".join(line for line in lines if line)


@cache
def meaning(group: str, name: str, setting: str) -> str:
    """Return the comment on a setting in the file of an option or in those that this starts from;
    on a setting of another group that in the first of its options that has one."""
    text = (conf_dir() / group / f"{name}.yaml").read_text()
    place = "" if text.startswith("# @package _global_") else f"{group}."
    if comment := comments(text).get(setting.removeprefix(place)):
        return comment
    if comment := comments((conf_dir() / "config.yaml").read_text()).get(setting):
        return comment
    starts, _ = choices((yaml.safe_load(text) or {}).get("defaults", []))
    other = setting.partition(".")[0]
    if other != group and (conf_dir() / other).is_dir():
        return next(
            (
                m
                for option_name in option_names(other)
                if (m := meaning(other, option_name, setting))
            ),
            "",
        )
    return next((m for option_name in starts if (m := meaning(group, option_name, setting))), "")


def choices(defaults: list[Any]) -> tuple[list[str], list[str]]:
    """Return the options that a file starts from, and those that it chooses in other groups."""
    starts = [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]
    entries = [
        (str(k), v) for entry in defaults if isinstance(entry, dict) for k, v in entry.items()
    ]
    groups = [(key.removeprefix("override ").lstrip("/"), value) for key, value in entries]
    names = [(key.rpartition("@_global_.")[2].rpartition("@")[2], value) for key, value in groups]
    return starts, [f"{key}={value}" for key, value in names]


def rows(said: Mapping[str, str], own: Any, made: Mapping[str, Any], place: str) -> str:
    """Return the table of the settings that a file sets; nothing where it sets none."""
    lines = []
    for key, value in leaves(own):
        name = f"{place}{key}"
        cells = (f"`{name}`", default(value), takes(made, name), said.get(name, ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return COLUMNS + "".join(lines) if lines else ""


def leaves(node: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of all values; private keys and tables of rows are left out."""
    for key, value in node.items():
        if str(key).startswith("_") or key in ("defaults", "hydra"):
            continue
        if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
            yield from leaves(value, f"{place}{key}.")
        elif not (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
            yield f"{place}{key}", value


def default(value: Any) -> str:
    """Return a default in words: as YAML has it, or where it is taken from."""
    if isinstance(value, str) and value.startswith("${row:"):
        return "by dataset" if TABLES in value else "by ipc"
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def takes(made: Mapping[str, Any], name: str) -> str:
    """Return in words what the setting ``name`` may be, by the annotation of what takes it."""
    node: Any = made
    kind: Any = None
    for key in name.split("."):
        if not isinstance(node, Mapping):
            return ""
        target = str(node.get("_target_", ""))
        if target:  # other packages' annotations change with their versions
            kind = signature_of(target).types.get(key) if target.startswith("ddist.") else None
        else:
            kind = member(kind)
        node = node.get(key)
    allowed = "" if kind is None else describe_mismatch(made, kind)
    return "" if MADE in allowed else allowed


def member(annotation: Any) -> Any:
    """Return what a mapping's values are annotated as; None where that is not said."""
    inner = [get_args(arguments) for arguments in alternatives(annotation)]
    return next(
        (arguments[1] for arguments in inner if len(arguments) == 2 and arguments[0] is str), None
    )
