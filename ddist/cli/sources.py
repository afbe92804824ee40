"""The files that a config is composed from, in their order, and what their comments say."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from ddist.tasks.config import conf_dir
from ddist.tasks.recipes import NONE, RecipeLoader, recipes


@dataclass(frozen=True)
class Source:
    """A file of settings.

    Args:
        option: its place among the configs, such as ``method/dc``.
        package: where its keys are in the config, such as ``trajectories.augment``; empty for the
            root.
        comments: what it says of each of its keys, by their dotted names below ``package``.
    """

    option: str
    package: str
    comments: Mapping[str, str]

    def __str__(self) -> str:
        return self.option.replace("/", " ", 1) if "/" in self.option else "default"

    def comment(self, name: str) -> str | None:
        """Return what the file says of the setting ``name``; None where it does not set it."""
        place = f"{self.package}." if self.package else ""
        return self.comments.get(name.removeprefix(place)) if name.startswith(place) else None


@dataclass(frozen=True)
class Composition:
    """``sources`` in the order in which later ones win, and who chose the option of each group."""

    sources: list[Source]
    choosers: Mapping[str, str]


def composition(words: Iterable[str], config_name: str = "config") -> Composition:
    """Return where the settings of a command line of ``words`` come from; Hydra is initialised."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, RecipeLoader)
    typed = [NONE if word == "recipe=null" else word for word in words]
    implied = loader.implied(config_name, typed, RunMode.RUN)
    listed = loader.compute_defaults_list(config_name, [*typed, *implied], RunMode.RUN)
    roots = [Path(entry.path) for entry in loader.get_sources() if entry.scheme() == "file"]
    sources = []
    for entry in listed.defaults:
        path = str(entry.config_path)
        file = next((f for r in roots if (f := r / f"{path}.yaml").is_file()), None)
        said = comments(file.read_text()) if file else of_recipe(path)
        if said is not None and not path.startswith("hydra/"):
            sources.append(Source(path, entry.package or "", said))
    choosers = {
        group: "command line"
        if override.external_override and not is_implied(group, implied)
        else "default"
        if override.external_override
        else str(override.containing_config_path)
        for group, override in listed.overrides.override_metadata.items()
    }
    return Composition(sources, choosers)


def is_implied(group: str, implied: Iterable[str]) -> bool:
    """Tell whether the option of ``group`` follows from others, though no file chooses it."""
    return any(word.startswith(f"{group}=") for word in implied)


def of_recipe(option: str) -> dict[str, str] | None:
    """Return the comments of a recipe, such as ``recipe/dd/mnist``, in a file of many; None where
    ``option`` is none."""
    for file, method, dataset, _ in recipes(conf_dir() / "recipe"):
        if option == f"recipe/{method}/{dataset}":
            place = f"{method}.{dataset}."
            comments_of_file = comments(file.read_text())
            return {
                name.removeprefix(place): text
                for name, text in comments_of_file.items()
                if name.startswith(place)
            }
    return None


def comments(text: str) -> dict[str, str]:
    """Return what the YAML ``text`` says of each of its keys, by dotted name: on the key's line,
    else on the lines of comments right above it."""
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        return {}
    lines = text.splitlines()
    rest = [*lines]  # but for what is no comment
    for token in yaml.scan(text):
        start, end = token.start_mark, token.end_mark
        for line in range(start.line, min(end.line + (end.column > 0), len(lines))):
            column = end.column if line == end.line else len(lines[line])
            rest[line] = " " * column + rest[line][column:]

    alone = [line if line == own else "" for line, own in zip(rest, lines, strict=True)]

    def said(line: int) -> str:
        return rest[line].strip().lstrip("# ") or above(alone, line)

    return {name: said(line) for name, line in keys(root)}


def keys(node: yaml.MappingNode, place: str = "") -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of all keys."""
    for key, value in node.value:
        yield f"{place}{key.value}", key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from keys(value, f"{place}{key.value}.")


def above(lines: list[str], line: int) -> str:
    """Return the comment on the lines right above ``line``, unless it is the file's."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return joined(lines[first:line]) if first else ""


def heading(text: str) -> str:
    """Return the comment that a file begins with."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    first = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return joined(lines[:first])


def joined(lines: Iterable[str]) -> str:
    return " ".join(line.strip().lstrip("#").strip() for line in lines)
