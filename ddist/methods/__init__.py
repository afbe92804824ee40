"""The methods, one file each: the paper's equation in sight, Lightning around it."""

from ddist.methods.base import Method
from ddist.methods.dd import DD
from ddist.methods.selection import OptimizedRandom, Selection

__all__ = ["DD", "Method", "OptimizedRandom", "Selection"]
