"""Settings that two runs have to have in common for their accuracies to share a column."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddist.settings.groups import KEYS, TABLES, keys, without

# Settings of one protocol that may differ: how many networks there are, how they are computed.
_SAME_PROTOCOL = {
    "name", "num_networks", "chunk", "networks", "precision", "kernel", "tuning_networks",
    "tuning_images", "without_batch_norm", "robust",
}  # fmt: skip


def learned(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that change what is learned, of a plain config as in results.json."""
    ignored = keys(lambda key: not key.learned)
    kept = values_alone({name: value for name, value in plain.items() if name not in ignored})
    for name, key in KEYS.items():
        for neutral in key.neutral:
            *groups, setting = neutral.split(".")
            node = kept.get(name, {})
            for group in groups:
                node = node.get(group, {})
            node.pop(setting, None)
    return kept


def values_alone(node: Any) -> Any:
    """Return a copy of ``node`` without keys that are no settings: Hydra's own, and tables."""
    return without(node, {"_partial_", "_convert_", TABLES})


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The network that a run trained, and the dataset of the images."""

    dataset: str
    init: str
    network: str
    config: dict[str, Any]  # of the run

    @property
    def own_network(self) -> bool:
        """Tell whether the run's config describes the network (else it is conf/network's)."""
        return not evaluation(self.config).get("networks")

    @property
    def objective(self) -> str:
        """Return what networks are trained for; an empty string where that is to classify."""
        return other_objective(self.config)

    def setting(self, path: str) -> Any:
        """Return the run's setting ``path``, such as ``method.lr.images``, and ``init`` by its
        name; None where there is none of that name."""
        if path == "init":
            return self.init
        value: Any = self.config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value


def evaluation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run's protocol; an empty dict for older runs without any."""
    protocol = config.get("evaluation")
    return protocol if isinstance(protocol, dict) else {}


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run learned with, but its seed, and the precision of its evaluation."""
    settings = learned(config)
    settings.pop("seed", None)
    return {**settings, "evaluation": {"precision": evaluation(config).get("precision")}}


def identity(config: Mapping[str, Any]) -> str:
    """Return a string that is equal for runs with the same :func:`settings_of`."""
    return json.dumps(settings_of(config), sort_keys=True, default=str)


def changed_settings(
    usual: Mapping[str, Any], own: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Return the settings of a protocol, by their dotted names, that are not as ``usual``. What
    only one side has, and what the YAML leaves to be computed, is not compared."""
    changed: dict[str, Any] = {}
    for key in usual.keys() & own.keys():
        one, other = usual[key], own[key]
        computed = isinstance(one, str | list) and "${" in str(one)
        if computed or (not prefix and str(key) in _SAME_PROTOCOL) or str(key).startswith("_"):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            changed |= changed_settings(by_name(one), by_name(other), f"{prefix}{key}.")
        elif one != other:
            changed[f"{prefix}{key}"] = other
    return changed


def other_objective(config: Mapping[str, Any]) -> str:
    """Return the name of what networks are trained for where that is not to classify, as their
    accuracy then says something else; an empty string where it is."""
    objective, method = config.get("objective"), config.get("method")
    if not (isinstance(method, dict) and "objective" in method and isinstance(objective, dict)):
        return ""
    name = str(objective.get("_target_", "")).rpartition(".")[2].lower()
    return "" if name == "classification" else name


def by_name(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return ``tree`` with words for keys, which JSON has made of the numbers in YAML."""
    return {str(key): value for key, value in tree.items()}


def protocol_label(name: str, changed: Mapping[str, Any]) -> str:
    """Return ``dc2021_dsa``, or ``dc2021_dsa (epochs=300)`` where its settings were others."""
    if not changed:
        return name
    return f"{name} ({', '.join(f'{key}={changed[key]}' for key in sorted(changed))})"
