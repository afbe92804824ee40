"""ddist: dataset distillation, every family of methods behind one command.

>>> import ddist
>>> distilled = ddist.load("outputs/.../distilled")   # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddist.artifact.dataset import DistilledDataset

    load = DistilledDataset.load

__version__ = "0.1.0"
__all__ = ["DistilledDataset", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Late, because an artifact brings torch, and ddist --help should not wait for that.
    if name not in ("DistilledDataset", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ddist.artifact.dataset import DistilledDataset

    return DistilledDataset if name == "DistilledDataset" else DistilledDataset.load
