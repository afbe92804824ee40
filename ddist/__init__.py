"""ddist: dataset distillation, every family of methods behind one command.

>>> import ddist
>>> distilled = ddist.load("outputs/.../distilled")   # doctest: +SKIP
"""

from ddist.artifact import DistilledDataset

__version__ = "0.1.0"
__all__ = ["DistilledDataset", "__version__", "load"]

load = DistilledDataset.load
