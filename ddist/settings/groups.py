"""The top-level keys of the config: one table, from which all lists of keys are derived."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from ddist.settings.ranges import (
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Precision,
    Share,
)

AttackName = Literal["fgsm", "pgd"]  # on pixels, see ddist/evaluation/attacks.py

TABLES = "_by_dataset_"
"""The key of the tables in a group that its settings are taken from."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A top-level key of the config.

    Args:
        type: of a single value; Any for a group.
        settings: that the runner itself reads in a group, beside what the ``_target_`` there takes,
            and their types.
        learned: whether another value learns another set.
        evaluated: whether another value, of one that is not ``learned``, gives other results.
        adopted: whether task=evaluate takes it from the artifact.
        needed: whether a run cannot do without.
        named: whether results name the chosen option.
        neutral: settings of a ``learned`` group that change nothing of what is learned.
    """

    type: Any = Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    learned: bool = True
    evaluated: bool = False
    adopted: bool = False
    needed: bool = False
    named: bool = False
    neutral: tuple[str, ...] = ()


TEACHER = {
    "store": bool,
    "temperature": Positive,
    "top_k": PositiveInt | None,
    "network": str | Mapping[str, Any] | Annotated[list[str | Mapping[str, Any]], MinLen(1)],
}
REFERENCE = {
    "measure": bool,
    "training": {
        "num_networks": PositiveInt,
        "epochs": PositiveInt,
        "batch_size": PositiveInt,
        "lr": NonNegative,
    },
    "starts": list[Literal["average", "kmeans"]],
    "coreset": {
        "select": Literal["herding", "kcenter", "kmeans_embedding"] | None,
        "epochs": PositiveInt,
        "per_class": PositiveInt,
    },
}
INIT = {
    "source": str | None,
    "classes": Annotated[list[str | int], MinLen(2)] | None,
    "weights": str | None,
    "subset": PositiveInt | None,
}
METHOD = {
    "batch_real": PositiveInt | None,
    "real_per_class": PositiveInt | None,
    "teacher": Mapping[str, Any],  # a copy of the group
}
EVALUATION = {
    "networks": str | Annotated[list[str], MinLen(1)] | None,
    "precision": Precision,
    "without_batch_norm": bool,
    "test_images": PositiveInt | None,
    "robust": {
        "attacks": AttackName | Annotated[list[AttackName], MinLen(1)] | None,
        "eps": Share,
        "steps": PositiveInt,
        "images": PositiveInt,
    },
}
KEYS = {
    "task": Key(learned=False, evaluated=True, needed=True),
    "method": Key(
        settings=METHOD,
        adopted=True,
        needed=True,
        named=True,
        neutral=(
            "published",  # of older runs: wishes for other groups, which had them
            *("trajectories.epochs", "trajectories.shard"),
            *("teacher.store", "teacher.temperature", "teacher.top_k"),
        ),
    ),
    "dataset": Key(
        settings={"folder": str | None},
        adopted=True,
        needed=True,
        named=True,
        neutral=("verify", "download"),
    ),
    "network": Key(adopted=True, needed=True, named=True),
    "init": Key(settings=INIT, adopted=True, needed=True, named=True),
    "objective": Key(adopted=True),
    "augment": Key(),
    "synthetic": Key(adopted=True, needed=True),
    # Methods that use these four hold a copy.
    "trajectories": Key(settings={"subset": PositiveInt | None}, learned=False),
    "kernel": Key(learned=False, evaluated=True, adopted=True),
    "generative": Key(learned=False),
    "teacher": Key(settings=TEACHER, learned=False, evaluated=True, adopted=True),
    "evaluation": Key(
        settings=EVALUATION, learned=False, evaluated=True, adopted=True, needed=True
    ),
    "reference": Key(settings=REFERENCE, learned=False, evaluated=True),
    "trainer": Key(
        settings={
            "max_steps": NonNegativeInt,
            "accumulate_grad_batches": PositiveInt,
            "num_nodes": PositiveInt,
        },
        needed=True,
        neutral=("default_root_dir", "log_every_n_steps"),
    ),
    "logger": Key(learned=False, needed=True),
    "callbacks": Key(learned=False),
    "paths": Key(settings={"data": str, "cache": str, "run": str}, learned=False),
    # single values
    "ipc": Key(type=PositiveInt, adopted=True, needed=True),
    "steps": Key(type=NonNegativeInt, adopted=True, needed=True),
    "seed": Key(type=NonNegativeInt, adopted=True, needed=True),
    "budget": Key(type=str | float | None, learned=False, evaluated=True, needed=True),
    "resume": Key(type=bool, learned=False, needed=True),
    "artifact": Key(type=str | None, learned=False, evaluated=True, needed=True),
    "threads": Key(type=PositiveInt | None, learned=False, needed=True),
    "compile": Key(type=bool | Literal["auto"], learned=False, needed=True),
    # Tables, whose values count where they are used.
    "recipe": Key(type=str | None, learned=False, adopted=True),
    "by_ipc": Key(learned=False),
    "preset": Key(learned=False),
    # of some tasks
    "runs": Key(type=str | list[str] | None),
    "format": Key(type=str | None),
    "path": Key(type=str | list[str] | None),
    "labels": Key(type=str | list[str] | None),
    "normalization": Key(type=Literal["mean_std", "zca", "none"] | None),
    "factor": Key(type=PositiveInt | None),
    "index": Key(type=NonNegativeInt),
}


def keys(where: Callable[[Key], bool]) -> tuple[str, ...]:
    """Return the top-level keys of which ``where`` holds, in the order of the table."""
    return tuple(name for name, key in KEYS.items() if where(key))


def without(node: Any, names: Collection[str]) -> Any:
    """Return a copy of ``node``, a plain config, without the keys ``names`` at any depth."""
    if isinstance(node, Mapping):
        return {k: without(v, names) for k, v in node.items() if k not in names}
    return [without(item, names) for item in node] if isinstance(node, list) else node
