"""The methods, one file each: the paper's equation in sight, Lightning around it."""

from ddist.methods.annealing import Annealed
from ddist.methods.base import Method
from ddist.methods.cafe import CAFE
from ddist.methods.clp import CLP
from ddist.methods.coreset import Coreset
from ddist.methods.datadam import DataDAM
from ddist.methods.datm import DATM
from ddist.methods.dc import DC
from ddist.methods.dd import DD
from ddist.methods.ddoq import DDOQ
from ddist.methods.ddpp import DDPP
from ddist.methods.dm import DM
from ddist.methods.frepo import FRePo
from ddist.methods.idc import IDC
from ddist.methods.idm import IDM
from ddist.methods.kip import KIP
from ddist.methods.lgm import LGM
from ddist.methods.m3d import M3D
from ddist.methods.mtt import MTT
from ddist.methods.ncfm import NCFM
from ddist.methods.rat import RaT
from ddist.methods.rded import RDED
from ddist.methods.selection import OptimizedRandom, Selection
from ddist.methods.sre2l import SRe2L

__all__ = [
    "CAFE",
    "CLP",
    "DATM",
    "DC",
    "DD",
    "DDOQ",
    "DDPP",
    "DM",
    "IDC",
    "IDM",
    "KIP",
    "LGM",
    "M3D",
    "MTT",
    "NCFM",
    "RDED",
    "Annealed",
    "Coreset",
    "DataDAM",
    "FRePo",
    "Method",
    "OptimizedRandom",
    "RaT",
    "SRe2L",
    "Selection",
]
