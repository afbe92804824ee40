"""The golden configs: what every method × dataset, and every preset, composes to, key by key.

``python -m tests.golden.configs`` writes ``tests/golden/configs.json.xz`` anew, which is right only
where a published setting itself was wrong. A setting that gets another name, or another value on
purpose, belongs into ``moved.yaml`` instead.
"""

import json
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import Container, OmegaConf

from ddist.tasks.config import conf_dir, option_names, register_resolvers
from ddist.tasks.recipes import recipes
from ddist.tasks.upgrade import words_of_preset

RECIPES = {method for _, method, _, _ in recipes(conf_dir() / "recipe")}
FILE = Path(__file__).with_name("configs.json.xz")
MOVED = Path(__file__).with_name("moved.yaml")
# Where things lie and what is shown: other on each machine.
ELSEWHERE = {"paths", "callbacks", "logger", "task"}
# Beside the settings: how Hydra calls a target, which the code says in one place, and tables.
HOW = {"_partial_", "_convert_", "_by_dataset_"}

Flat = dict[str, Any]  # dotted name: plain value


def command_lines() -> list[str]:
    """Return the words of every method × dataset, at 10 images per class too where a recipe has
    published settings, and of every preset."""
    methods, datasets = option_names("method"), option_names("dataset")
    cells = [
        f"method={method} dataset={dataset} ipc={ipc}"
        for method in methods
        for dataset in datasets
        for ipc in (1, 10)
        if ipc == 1 or has_recipe(method, dataset)
    ]
    return [*cells, *(f"experiment={preset}" for preset in option_names("experiment"))]


def settings(words: str) -> Flat:
    """Return every setting of the command line ``words`` with its resolved value."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", words.split())
    names = [str(name) for name in cfg if name not in ELSEWHERE]
    OmegaConf.set_struct(cfg, False)
    cfg.paths = {"data": "data", "cache": "cache", "run": "run"}
    resolved = {
        name: OmegaConf.to_container(node, resolve=True)
        if isinstance(node := cfg._get_node(name), Container)
        else cfg[name]
        for name in names
    }
    return dict(flat(resolved))


def words_today(words: str) -> str:
    """Return what says today what ``words`` said, of which presets had other names."""
    option, _, name = words.partition("=")
    return (words_of_preset(name) if option == "experiment" else "") or words


def flat(config: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of all values in nested mappings; an empty mapping is a value."""
    for key, value in config.items():
        if key in HOW:
            continue
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def load() -> dict[str, Flat]:
    """Return the golden settings of each command line."""
    return json.loads(lzma.decompress(FILE.read_bytes()))  # type: ignore[no-any-return]


def write() -> None:
    """Compose everything and keep it."""
    golden = {words: settings(words) for words in command_lines()}
    text = json.dumps(golden, sort_keys=True, separators=(",", ":"))
    FILE.write_bytes(lzma.compress(text.encode(), preset=9))


def expected(words: str, golden: Flat) -> Flat:
    """Return ``golden``, the settings of ``words``, under the names and values of today; see
    ``moved.yaml``."""
    moved = yaml.safe_load(MOVED.read_text())
    today: Flat = {}
    for name, value in golden.items():
        branch = _longest(name, moved["renamed"])
        if branch is not None:
            name = moved["renamed"][branch] + name[len(branch) :]
        told = name.rpartition(".")[2] in HOW
        if not told and not is_within(name, moved["gone"]):
            hashable = isinstance(value, str)
            today[name] = moved["values"].get(value, value) if hashable else value
            if name in moved["null_now"]:
                today[name] = None
    return today


def has_own_settings(words: str) -> bool:
    """Tell whether a method that learns stands beside a dataset that it has no recipe for: its
    settings are then those for any data, which no paper has."""
    chosen = dict(word.split("=") for word in words.split())
    method = chosen.get("method")
    return method in RECIPES and not has_recipe(method, chosen["dataset"])


def has_recipe(method: str, dataset: str) -> bool:
    return any(each[1:3] == (method, dataset) for each in recipes(conf_dir() / "recipe"))


def added() -> list[str]:
    """Return the names, also of whole branches, that ``moved.yaml`` lists as new."""
    return list(yaml.safe_load(MOVED.read_text())["added"])


def is_within(name: str, branches: Any) -> bool:
    """Return whether the dotted ``name`` is one of ``branches`` or below one of them."""
    return _longest(name, branches) is not None


def _longest(name: str, branches: Any) -> str | None:
    fitting = [b for b in branches if name == b or name.startswith(f"{b}.")]
    return max(fitting, key=len, default=None)


if __name__ == "__main__":
    write()
