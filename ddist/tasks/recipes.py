"""The settings of methods on datasets (conf/recipe), as options that Hydra composes."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

# The fast one, as every command reads all of them.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def register_recipes(folder: Path) -> None:
    """Make the recipes in the files of ``folder`` options of Hydra's, ``recipe=METHOD/DATASET``.

    A file has a section for each of its methods, and in it one for each dataset that the method has
    settings for. One with ``defaults: [METHOD/DATASET]`` starts from another, which goes before it.
    Each sets ``recipe``, its own name.
    Somebody's own folder of YAML files may have ``recipe/METHOD/DATASET.yaml``, which Hydra takes
    first.
    """
    for _, method, dataset, settings in recipes(folder):
        group, name = f"recipe/{method}", f"{dataset}.yaml"
        node = {**settings, "recipe": f"{method}/{dataset}"}
        ConfigStore.instance().store(name, node, group, package="_global_", provider="ddist")


@cache
def recipes(folder: Path) -> list[tuple[Path, str, str, Any]]:
    """Return (file, method, dataset, settings) of all recipes in the files of ``folder``."""
    return list(_read(folder))


def _read(folder: Path) -> Iterator[tuple[Path, str, str, Any]]:
    for file in sorted(folder.glob("*.yaml")):
        for method, sections in yaml.load(file.read_text(), LOADER).items():
            for dataset, settings in sections.items():
                yield file, method, dataset, settings
