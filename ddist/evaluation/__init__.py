"""Named protocols: what training on a distilled set means, and how good the result is."""

from ddist.evaluation.evaluator import Evaluator, Row
from ddist.evaluation.knn import NearestNeighbours
from ddist.evaluation.krr import KernelRegression
from ddist.evaluation.probe import LinearProbe
from ddist.evaluation.protocol import Protocol
from ddist.evaluation.replay import Replay
from ddist.evaluation.training import LearnedRate, Training

__all__ = [
    "Evaluator",
    "KernelRegression",
    "LearnedRate",
    "LinearProbe",
    "NearestNeighbours",
    "Protocol",
    "Replay",
    "Row",
    "Training",
]
