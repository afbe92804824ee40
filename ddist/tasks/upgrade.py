"""Upgrades of what earlier versions left: configs in runs and artifacts, and names of presets."""

import re
from collections.abc import Mapping
from typing import Any

RENAMED_TARGETS = {"ddist.trajectories.": "ddist.experts."}
"""Beginnings of names of classes and functions: old, new."""

ADDED: tuple[tuple[str, str, Any], ...] = (
    ("synthetic", "scarce", "refuse"),
    ("dataset", "classes", None),
    ("dataset", "skip_damaged", False),
    ("dataset.source", "test_share", 0.2),
    ("dataset.source", "split_seed", 0),
    ("dataset.source", "background", "white"),
    ("dataset.source", "white", None),
    ("init", "classes", None),
    ("method", "log_step_size", False),
    ("method", "sum_classes", False),
    ("method", "cluster_from", None),
    ("method", "cluster_every", 10),
    ("method", "curriculum", 0.0),
    ("method", "blends", 0),
    ("method", "keep", 0.5),
    ("method", "rounds", 1),
    ("method", "asked", 1),
    ("method", "rank", "surest"),
    ("method", "nearest", False),
    ("method", "shallow", 0.0),
    ("generative", "mode_guidance", 0.0),
    ("generative", "mode_stop", 0.5),
    ("method.generative", "mode_guidance", 0.0),
    ("method.generative", "mode_stop", 0.5),
)
"""Settings that came later, with the value that does what was done before: where, name, value."""

TAKEN_BY = {
    "dataset.source.test_share": "folder",
    "dataset.source.split_seed": "folder",
    "dataset.source.background": "folder",
    "dataset.source.white": "folder",
    "init.classes": "source",
    "method.log_step_size": "expert_epochs",
    "method.sum_classes": "updates",
    "method.cluster_from": "classes_at_once",
    "method.cluster_every": "classes_at_once",
    "method.curriculum": "batch_classes",
    "method.blends": "batch_classes",
    "method.keep": "batch_classes",
    "method.rounds": "batch_classes",
    "method.asked": "batch_classes",
    "method.rank": "num_crops",
    "method.nearest": "expert_epochs",
    "method.shallow": "growth_steps",
    "generative.mode_guidance": "inference_steps",
    "generative.mode_stop": "inference_steps",
    "method.generative.mode_guidance": "inference_steps",
    "method.generative.mode_stop": "inference_steps",
}
"""For settings that not every option of their group has: another setting of those that do."""


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain ``config`` of an earlier version with today's names, and with the settings
    that it could not have yet; whatever is current stays as it is."""
    upgraded: dict[str, Any] = _rename(dict(config))
    if isinstance(upgraded.get("method"), dict):
        upgraded["method"].pop("published", None)  # wishes for other groups, which had them
    for place, name, value in ADDED:
        group: Any = upgraded
        for key in place.split("."):
            group = group.get(key) if isinstance(group, dict) else None
        if isinstance(group, dict) and TAKEN_BY.get(f"{place}.{name}", "_target_") in group:
            group.setdefault(name, value)
    return upgraded


def _rename(node: Any) -> Any:
    """Return ``node`` with the names of its targets as they are today."""
    if isinstance(node, Mapping):
        return {key: _target(v) if key == "_target_" else _rename(v) for key, v in node.items()}
    return [_rename(value) for value in node] if isinstance(node, list) else node


def _target(name: Any) -> Any:
    for old, new in RENAMED_TARGETS.items():
        if isinstance(name, str) and name.startswith(old):
            return new + name.removeprefix(old)
    return name


_ADAPTATION = "dataset=usps init.source=mnist"
_OLD_PRESETS = {
    "laptop/dd_mnist_ipc1": "method=dd dataset=mnist init=fixed",
    "laptop/dd_mnist_ipc10": "method=dd dataset=mnist ipc=10",
    "laptop/dd_mnist_ipc1_random": "method=dd dataset=mnist steps=1500 threads=1",
    "laptop/dd_mnist_ipc1_soft": "experiment=laptop/dd_soft",
    "laptop/dd_mnist_ipc1_random_soft": "experiment=laptop/dd_soft init=random steps=1500",
    "laptop/dd_mnist_ipc1_labels": "experiment=laptop/dd_labels",
    "laptop/dd_mnist_ipc1_random_labels": "experiment=laptop/dd_labels init=random steps=1500",
    "laptop/dd_mnist_poison_ipc10": "experiment=laptop/dd_poison",
    "laptop/dd_cifar10_poison_ipc10": "experiment=laptop/dd_poison dataset=cifar10",
    "laptop/dd_usps_mnist_ipc10": "experiment=laptop/dd_adaptation",
    "laptop/dd_usps_mnist_fixed_ipc10": "experiment=laptop/dd_adaptation init.fixed=true",
    "laptop/dd_mnist_usps_ipc10": f"experiment=laptop/dd_adaptation {_ADAPTATION}",
    "laptop/dd_mnist_usps_fixed_ipc10":
        f"experiment=laptop/dd_adaptation {_ADAPTATION} init.fixed=true",
    "laptop/mtt_cifar10_ipc1": "experiment=laptop/mtt dataset=cifar10 evaluation=mtt",
    "paper/dd_mnist_poison_ipc10": "experiment=paper/dd_poison",
    "paper/dd_cifar10_poison_ipc30": "experiment=paper/dd_poison dataset=cifar10 ipc=30",
    "paper/dd_usps_mnist_ipc10": "experiment=paper/dd_adaptation",
    "paper/dd_mnist_usps_ipc10": f"experiment=paper/dd_adaptation {_ADAPTATION}",
    "paper/dd_svhn_mnist_ipc10":
        "experiment=paper/dd_adaptation init.source=svhn dataset.channels=3",
    "paper/ddoq_imagenet1k_sd15": "experiment=paper/imagenet1k",
    "paper/ddoq_imagenet1k_dit": "experiment=paper/imagenet1k generative=dit",
    "paper/d4m_imagenet1k_sd15": "experiment=paper/imagenet1k method=d4m",
    "paper/ddoq_imagenette_dit": "experiment=paper/imagenet10_dit",
    "paper/ddoq_imagenette_sd15": "experiment=paper/imagenet10_sd15",
    "paper/d4m_imagenette_sd15": "experiment=paper/imagenet10_sd15 method=d4m",
}  # fmt: skip


def words_of_preset(name: str) -> str:
    """Return the words that choose what an earlier version had as the preset ``name``, such as
    ``laptop/dm_mnist_ipc10``; nothing where it had none of that name."""
    if name in _OLD_PRESETS:
        return _OLD_PRESETS[name]
    if match := re.fullmatch(r"(paper/dd_\w+)_fixed(_ipc10)", name):
        other = _OLD_PRESETS.get("".join(match.groups()))
        return f"{other} init.fixed=true" if other else ""
    if match := re.fullmatch(r"(paper/\w+)_imagewoof(_\w+)", name):
        other = _OLD_PRESETS.get("_imagenette".join(match.groups()))
        return f"{other} dataset.name=imagewoof" if other else ""
    if match := re.fullmatch(r"laptop/([a-z0-9]+)_([a-z0-9_]+)_ipc(\d+)", name):
        return "experiment=laptop/{} dataset={} ipc={}".format(*match.groups())
    return ""
