"""task=settings: every setting of a run with its value, what it means and where it comes from."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ddist.cli.reference import reference
from ddist.cli.sources import Composition, composition
from ddist.compare.sheet import console
from ddist.errors import DdistError
from ddist.storage.atomic import write_file_whole
from ddist.tasks.config import ROW, row_of
from ddist.tasks.names import words

HIDDEN = ("task", "hydra", "by_ipc", "preset")
TYPED = "command line"
_COPY = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Setting:
    """One value of a run, in words."""

    name: str
    value: str
    origin: str
    meaning: str


def run(cfg: DictConfig, *, filter: str | None, page: str | None, **_: Any) -> None:
    """Print the settings whose names contain ``filter``, all where it is null; or write the page of
    all options of all groups to the file ``page``. What a preset says of its own task is ignored.
    """
    if page is not None:
        write_file_whole(Path(page), reference().encode())
        return
    made = composition(words(), HydraConfig.get().job.config_name or "config")
    listed = [setting for setting in settings(cfg, made, words()) if (filter or "") in setting.name]
    if not listed:
        raise DdistError(f"No setting's name contains {filter!r}: leave task.filter out for all.")
    console().print(table(listed))


def settings(cfg: DictConfig, made: Composition, typed: list[str]) -> Iterator[Setting]:
    """Yield the chosen options and the values of ``cfg``, which was ``made`` of files and of the
    words that were ``typed``."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(raw, dict)
    choices = HydraConfig.get().runtime.choices
    keys = [word.lstrip("+~").partition("=")[0] for word in typed]
    typed_keys = [key for key in keys if key not in choices]
    for group in [str(name) for name in raw if name not in HIDDEN]:
        if group in choices:
            chooser = made.choosers.get(group, "default").replace("/", " ", 1)
            yield Setting(group, str(choices[group]), chooser, "")
        for name, value in values(raw[group], group):
            yield describe(name, value, cfg, made, typed_keys)


def values(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of all that can be set at ``place``."""
    if not (isinstance(node, Mapping) and node and all(isinstance(name, str) for name in node)):
        yield place, node
        return
    for name, value in node.items():
        if not name.startswith("_"):
            yield from values(value, f"{place}.{name}")


def describe(
    name: str, raw: Any, cfg: DictConfig, made: Composition, typed_keys: list[str]
) -> Setting:
    """Return the setting ``name``, whose value is ``raw`` before anything in it is computed."""
    said = [(source, source.comment(name)) for source in reversed(made.sources)]
    meaning = next((comment for _, comment in said if comment), "")
    origin = next((str(source) for source, comment in said if comment is not None), "default")
    if any(name == key or name.startswith(f"{key}.") for key in typed_keys):
        return Setting(name, in_words(cfg, name), TYPED, meaning)
    copied = _COPY.fullmatch(str(raw))
    if copied and OmegaConf.is_dict(OmegaConf.select(cfg, name)):
        return Setting(name, f"as {copied[1]}", origin, meaning)
    if looked_up := ROW.fullmatch(str(raw)):
        row = {str(k): v for k, v in row_of(cfg, looked_up[1] or "by_ipc").items()}
        marks = [f"{k}={v}" for k, v in row.items() if k in ("dataset", "ipc") or "." in k]
        origin = f"{origin}, row {' '.join(marks)}" if marks else origin
    return Setting(name, in_words(cfg, name), origin, meaning)


def in_words(cfg: DictConfig, name: str) -> str:
    """Return the value of ``name`` as YAML writes it on one line."""
    value = OmegaConf.select(cfg, name)
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000)
    return text.removesuffix("...\n").strip()


def table(listed: list[Setting]) -> Table:
    """Return a table of the settings for the console, group by group."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("setting", overflow="fold", min_width=24)  # whole, as people copy them
    shown.add_column("value", overflow="fold")
    shown.add_column("from")
    shown.add_column("meaning")
    group, single = "", False
    for setting in listed:
        before, (group, dot, _) = group, setting.name.partition(".")
        if group != before and not (single and not dot and setting.meaning):
            shown.add_section()
        single = not dot and bool(setting.meaning)  # no option of a group
        style = None if dot else "bold"
        cells = (setting.name, setting.value, setting.origin, setting.meaning)
        shown.add_row(*(cell.replace("[", r"\[") for cell in cells), style=style)
    return shown
