"""The config of each job of a sweep, composed by the job's own groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ddist.cli.explain import explain
from ddist.cli.suggest import did_you_mean, flatten, near
from ddist.errors import DdistError
from ddist.tasks.config import to_plain
from ddist.tasks.recipes import RecipeLoader, say_typed


@dataclass(frozen=True)
class Words:
    """A command line as Hydra reads it: ``settings`` set values of ddist's, ``groups`` choose
    options, of which ``swept`` have several, and the rest is Hydra's own."""

    all: list[Override]
    groups: list[Override]

    @property
    def settings(self) -> list[Override]:
        return [w for w in self.all if w not in self.groups and not w.is_hydra_override()]

    @property
    def swept(self) -> list[Override]:
        return [word for word in self.groups if word.is_sweep_override()]


class JobConfigLoader(RecipeLoader):
    """The loader of configs, for sweeps over groups.

    Before a sweep Hydra composes one config, with the default options of the groups that are swept,
    and refuses a setting that only other options have. Here such a setting waits for the jobs (see
    :func:`check_settings`), and a job whose own groups do not have it fails by itself.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._of_mode: tuple[list[str], DictConfig] | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *rest: Any,
        **named: Any,
    ) -> DictConfig:
        """Compose. Hydra first asks for ``hydra.mode`` alone, and then for the very same config."""
        if named.get("validate_sweep_overrides") is False:
            config = self._load(config_name, overrides, run_mode, *rest, **named)
            self._of_mode = overrides, config
            return config
        earlier, self._of_mode = self._of_mode, None
        if run_mode == RunMode.RUN and earlier is not None and earlier[0] == overrides:
            words = OverridesParser.create().parse_overrides(overrides)
            self.validate_sweep_overrides_legal(words, run_mode, from_shell=True)
            return earlier[1]
        return self._load(config_name, overrides, run_mode, *rest, **named)

    def _load(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *rest: Any,
        **named: Any,
    ) -> DictConfig:
        load = partial(super().load_configuration, config_name)
        try:
            return load(overrides, run_mode, *rest, **named)
        except ConfigCompositionException:
            if run_mode != RunMode.MULTIRUN:
                raise
            words = self.read(config_name, overrides)
            without = [str(word.input_line) for word in words.all if word not in words.settings]
            config = load(without, run_mode, *rest, **named)
            if not self.of_sweep(config).swept:
                raise
            refused = [
                setting.input_line for setting in words.settings if not applies(setting, config)
            ]
        fitting = [text for text in overrides if text not in refused]
        config = load(fitting, run_mode, *rest, **named)
        say_typed(config, words.all)
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return the config of the job with ``sweep_overrides``. Where its groups lack one of its
        settings, and other jobs have other groups, its task is to raise a DdistError."""
        try:
            return super().load_sweep_config(master_config, sweep_overrides)
        except ConfigCompositionException as error:
            if not self.of_sweep(master_config).swept:
                raise
            words = self.read(master_config.hydra.job.config_name, sweep_overrides)
            groups = [str(word.input_line) for word in words.groups]
            config = super().load_sweep_config(master_config, groups)
            refused = [
                setting.input_line for setting in words.settings if not applies(setting, config)
            ]
            if not refused:
                raise
            sentence = explain(error, sweep_overrides)
        fitting = [text for text in sweep_overrides if text not in refused]
        config = super().load_sweep_config(master_config, fitting)
        with open_dict(config):
            say_typed(config, words.all)
            config.task = {"_target_": f"{__name__}.refuse", "sentence": sentence}
        return config

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """Return a group's options, without the files that only others start from (``_base``)."""
        names = super().get_group_options(group_name, results_filter, config_name, overrides)
        return [name for name in names if not name.startswith("_")]

    def read(self, config_name: str | None, overrides: list[str]) -> Words:
        _, repository = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        parsed = OverridesParser.create(config_loader=self).parse_overrides(overrides)
        groups = [
            word for word in parsed
            if not word.is_hydra_override() and repository.group_exists(word.key_or_group)
            and (word.is_sweep_override() or not isinstance(word.value(), dict))
        ]  # fmt: skip
        return Words(parsed, groups)

    def of_sweep(self, config: DictConfig) -> Words:
        """Return the command line and the sweeper's parameters; of two for one name the last."""
        params = config.hydra.sweeper.get("params") or OmegaConf.create({})
        fixed = [key for key in map(str, params) if not OmegaConf.is_interpolation(params, key)]
        typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        texts = [f"{key}={params[key]}" for key in fixed] + [str(text) for text in typed or ()]
        words = self.read(config.hydra.job.config_name, texts)
        last = list({word.get_key_element(): word for word in words.all}.values())
        return Words(last, [word for word in last if word in words.groups])

    def combinations(self, config: DictConfig) -> Iterator[DictConfig]:
        """Yield the config of each combination of the sweep's options, without its settings. Raise
        Hydra's errors for unknown options."""
        hydra = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
        assert isinstance(hydra, list)
        choices = [
            [f"{word.get_key_element()}={value}" for value in word.sweep_string_iterator()]
            if word.is_discrete_sweep()
            else [word.input_line]
            for word in self.of_sweep(config).groups
        ]
        for chosen in product(*choices):
            overrides = [str(word) for word in (*hydra, *chosen)]
            yield self.load_configuration(config.hydra.job.config_name, overrides, RunMode.RUN)


def refuse(cfg: DictConfig, *, sentence: str) -> NoReturn:
    """Raise a DdistError: the task of a job that cannot be composed as it was asked for."""
    raise DdistError(sentence)


def check_settings(config: DictConfig) -> None:
    """Raise a DdistError for the first setting of a sweep over groups that none of its jobs has,
    and where a preset varies around a setting whose value is not the same in all of them; a value
    that all share is filled in."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, JobConfigLoader)
    words = loader.of_sweep(config)
    if not words.swept:
        return
    params = config.hydra.sweeper.get("params") or OmegaConf.create({})
    typed = {word.key_or_group for word in words.settings}
    around = [
        key for key in map(str, params)
        if OmegaConf.is_interpolation(params, key) and key not in typed
    ]  # fmt: skip
    unknown, known, values = words.settings, set[str](), dict[str, set[object]]()
    for job in loader.combinations(config):
        known |= dict(flatten(to_plain(job, resolve=False))).keys()
        for key in around:
            own = OmegaConf.select(job, key) is not None
            values.setdefault(key, set()).add(job.hydra.sweeper.params[key] if own else None)
        unknown = [word for word in unknown if not applies(word, job)]
        if not unknown and not around:
            return
    if unknown:
        name = unknown[0].key_or_group
        raise DdistError(
            f"Unknown option {name!r}{did_you_mean(near(name, known))}: no job of this sweep has "
            "it; ddist --cfg job lists all of them."
        )
    swept = " and ".join(word.key_or_group for word in words.swept)
    for key, different in values.items():
        if different == {None}:
            raise DdistError(
                f"No {swept} of this sweep has {key}, around which it varies: choose others, or "
                "sweep over settings of their own with -m."
            )
        if len(different) > 1:
            raise DdistError(
                f"This sweep varies around {key}, which is not the same for every {swept}: sweep "
                f"each of them by itself, or name the values of {key} on the command line."
            )
        params[key] = different.pop()


def applies(word: Override, config: DictConfig) -> bool:
    """Tell whether ``config`` has the setting of ``word``, and set it there; one that is swept
    becomes null."""
    if word.is_sweep_override():
        word = OverridesParser.create().parse_override(f"{word.get_key_element()}=null")
    try:
        ConfigLoaderImpl._apply_overrides_to_config([word], config)
    except ConfigCompositionException:
        return False
    return True
