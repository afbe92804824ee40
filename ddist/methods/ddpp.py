"""Dataset Distillation using Parameter Pruning (Li, Togo, Ogawa & Haseyama 2022,
arXiv 2209.14609)."""

from typing import Any, Literal

import torch
from torch import Tensor

from ddist.matching.trajectory import similarity, trajectory_distance
from ddist.methods.mtt import MTT
from ddist.networks import Weights
from ddist.settings.ranges import Share


class DDPP(MTT):
    """MTT without the weights that are too hard to match.

        r = min(|theta_N|, |theta*_{t+M}|) / max(|theta_N|, |theta*_{t+M}|), 0 for opposite signs

    The paper says that pairs below a threshold are pruned, and its code was not published, so both
    readings are here: ``prune="mask"`` leaves the entries with r < threshold out of the distance,
    ``prune="gate"`` leaves out the whole outer step where the mean of r is below it.

    Args:
        prune: "mask" or "gate".
        threshold: epsilon, in [0, 1]; nothing is pruned at 0.
        common: of MTT.
    """

    def __init__(self, *, prune: Literal["mask", "gate"], threshold: Share, **common: Any) -> None:
        super().__init__(**common)
        self.prune, self.threshold = prune, threshold

    def distance(self, end: Weights, target: Weights, start: Weights) -> Tensor:
        ratios = similarity(end, target)
        total = sum(ratio.numel() for ratio in ratios.values())
        if self.prune == "gate":
            match = torch.stack([ratio.sum() for ratio in ratios.values()]).sum() / total
            self.log("distill/match", match)
            return self.hold(trajectory_distance(end, target, start), match < self.threshold)
        keep = {name: ratio >= self.threshold for name, ratio in ratios.items()}
        kept = torch.stack([mask.sum() for mask in keep.values()]).sum()
        self.log("distill/kept", kept / total)
        return trajectory_distance(end, target, start, keep)
