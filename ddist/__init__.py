"""ddist: dataset distillation, every family of methods behind one command.

>>> import ddist
>>> distilled = ddist.distill("pictures", method="dm", ipc=10)   # doctest: +SKIP
>>> distilled = ddist.load("outputs/.../distilled")   # doctest: +SKIP
>>> train = ddist.ReadySet("mnist-10")   # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddist.artifact.dataset import DistilledDataset
    from ddist.artifact.ready import ReadySet
    from ddist.cli.calls import distill, evaluate
    from ddist.errors import DdistError

    load = DistilledDataset.load

__version__ = "0.1.0"
__all__ = [
    "DdistError",
    "DistilledDataset",
    "ReadySet",
    "__version__",
    "distill",
    "evaluate",
    "load",
]


_HOMES = {
    "DdistError": "ddist.errors",
    "DistilledDataset": "ddist.artifact.dataset",
    "ReadySet": "ddist.artifact.ready",
    "distill": "ddist.cli.calls",
    "evaluate": "ddist.cli.calls",
}


def __getattr__(name: str) -> Any:
    # Late, because they bring torch, and ddist --help should not wait for that.
    if name == "load":
        return import_module("ddist.artifact.dataset").DistilledDataset.load
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
