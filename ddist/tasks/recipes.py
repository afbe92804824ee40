"""The settings of methods on datasets (conf/recipe), as options that Hydra composes."""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig

# The fast one, as every command reads all of them.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

USUAL = "dm"
"""The method of a command that names none, on data that config.yaml's has no recipe for: of the
four that were tried on photos the furthest above random ones (docs/own-pictures.md)."""
NONE = "~recipe"
"""Hydra's word for ``recipe=null``: the value of a group is a name to it, or none is chosen."""
PAPER = "_paper"
"""The section of what a method has on all of its paper's datasets."""


class ShallowRepository(CachingConfigRepository):
    """Hydra's repository of configs, which does not copy the store of all recipes: with that
    ``ddist --help``, which makes one for each group, took 8.9 s, and takes 0.7. Its own are the
    sources alone, which ``hydra.searchpath`` may change."""

    def __init__(self, delegate: IConfigRepository) -> None:
        self.delegate = copy(delegate)
        self.cache: dict[str, ConfigResult | None] = {}


class RecipeLoader(ConfigLoaderImpl):
    """Hydra's loader of configs, which takes the recipe of the chosen method and dataset, where
    there is one and the command line names none.

    Named in the list of defaults, as ``recipe: ${method}/${dataset}``, it could not choose the
    paper's protocol and network, which are other groups.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._shared: CachingConfigRepository | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *rest: Any,
        **named: Any,
    ) -> DictConfig:
        overrides = [NONE if word == "recipe=null" else word for word in overrides]
        parsed, self._shared = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        try:  # files are read once for the choices and for all that they hold
            implied = self.implied(config_name, overrides, run_mode)
            words = [*overrides, *implied]
            config = super().load_configuration(config_name, words, run_mode, *rest, **named)
        finally:
            self._shared = None
        config.recipe = config.hydra.runtime.choices.get("recipe")
        if implied:  # nobody typed it
            say_typed(config, parsed)
        return config

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        words = OverridesParser.create().parse_overrides(overrides)
        if self._shared is not None:
            return words, self._shared
        repository = ShallowRepository(self.repository)
        self._process_config_searchpath(config_name, words, repository)
        return words, repository

    def implied(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode
    ) -> list[str]:
        """Return the choices that follow from those in ``overrides`` and their presets: the recipe
        for the method and dataset, if there is one and none is named; ``USUAL`` where no method is
        named and that of config.yaml has no recipe. A method with a time has none."""
        named = {word.lstrip("+~").partition("=")[0] for word in overrides}
        if "recipe" in named:
            return []
        # With the folders of hydra.searchpath, where somebody's own may lie.
        words, found = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        choices = plain_choices(found, config_name, words)
        if choices is None:
            listed = self.compute_defaults_list(config_name, overrides, run_mode)
            choices = listed.overrides.known_choices
        method, dataset = choices.get("method"), choices.get("dataset")
        timed = "experiment" not in named and any(map(is_budget, words))
        if has_recipe(found, method, dataset) and not (timed and "method" in named):
            return [f"recipe={method}/{dataset}"]
        if {"method", "experiment"} & named:
            return []
        usual = [f"method={USUAL}"]
        if not timed and has_recipe(found, USUAL, dataset):
            usual.append(f"recipe={USUAL}/{dataset}")
        return usual


def plain_choices(
    repository: IConfigRepository, config_name: str | None, words: Sequence[Override]
) -> dict[str, str | None] | None:
    """Return the options of the groups where those are the config's own and the typed ones; None
    where a preset, or another config that this one starts from, may choose others. Then it takes
    Hydra's walk through all of them, which doubles the time of composing."""
    config = None if config_name is None else repository.load_config(config_name)
    choices: dict[str, Any] = {}
    for default in (config and config.defaults_list) or [ConfigDefault()]:
        if isinstance(default, GroupDefault) and not default.override:
            choices[str(default.group)] = default.value
        elif not default.is_self():
            return None
    choices |= {w.key_or_group: w.value() for w in words if w.key_or_group in choices}
    plain = all(value is None or isinstance(value, str) for value in choices.values())
    return choices if plain and choices.get("experiment") is None else None


def say_typed(config: DictConfig, words: Sequence[Override]) -> None:
    """Have ``config`` name the settings among ``words`` as all that were typed."""
    typed = [word for word in words if not word.is_hydra_override()]
    naming = config.hydra.job.config.override_dirname
    config.hydra.overrides.task = [word.input_line for word in typed]
    config.hydra.job.override_dirname = get_overrides_dirname(
        typed, list(naming.exclude_keys), naming.item_sep, naming.kv_sep
    )


def is_budget(word: Override) -> bool:
    """Tell whether a word of the command line bounds its time, which no paper's schedule fits."""
    return word.key_or_group == "budget" and word.value() not in (None, "auto")


def has_recipe(repository: IConfigRepository, method: str | None, dataset: str | None) -> bool:
    return bool(repository.config_exists(f"recipe/{method}/{dataset}"))


def install(loader: type[RecipeLoader] = RecipeLoader) -> None:
    """Have Hydra compose with ``loader``, for which it has no setting, or go on with one that is
    more."""
    if not issubclass(hydra_internal.ConfigLoaderImpl, loader):
        hydra_internal.ConfigLoaderImpl = loader  # type: ignore[misc]


def register_recipes(folder: Path) -> None:
    """Make the recipes in the files of ``folder`` options of Hydra's, ``recipe=METHOD/DATASET``.

    A file has a section for each of its methods, and in it one for each dataset that the method has
    settings for: null where those are ``_paper``'s, from which all of the method start. One with
    ``defaults: [/recipe/METHOD/DATASET]`` starts from another, which goes before it.
    Somebody's own folder of YAML files may have ``recipe/METHOD/DATASET.yaml``, which Hydra takes
    first.
    """
    for _, method, dataset, settings in recipes(folder):
        group, name = f"recipe/{method}", f"{dataset}.yaml"
        ConfigStore.instance().store(name, settings, group, package="_global_", provider="ddist")


@cache
def recipes(folder: Path) -> list[tuple[Path, str, str, Any]]:
    """Return (file, method, dataset, settings) of all recipes in the files of ``folder``."""
    return list(_sections(folder))


def _sections(folder: Path) -> Iterator[tuple[Path, str, str, Any]]:
    for file in sorted(folder.glob("*.yaml")):
        for method, sections in yaml.load(file.read_text(), LOADER).items():
            for dataset, settings in sections.items():
                settings = dict(settings or {})
                if PAPER in sections and dataset != PAPER:
                    settings.setdefault("defaults", [f"/recipe/{method}/{PAPER}", "_self_"])
                yield file, method, dataset, settings
