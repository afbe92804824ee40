"""The methods, one file each: the paper's equation in sight, Lightning around it."""

from ddist.methods.base import Method
from ddist.methods.cafe import CAFE
from ddist.methods.coreset import Coreset
from ddist.methods.dc import DC
from ddist.methods.dd import DD
from ddist.methods.dm import DM
from ddist.methods.idc import IDC
from ddist.methods.ncfm import NCFM
from ddist.methods.selection import OptimizedRandom, Selection

__all__ = [
    "CAFE",
    "DC",
    "DD",
    "DM",
    "IDC",
    "NCFM",
    "Coreset",
    "Method",
    "OptimizedRandom",
    "Selection",
]
