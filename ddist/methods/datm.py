"""Difficulty-Aligned Trajectory Matching (Guo et al. 2024, arXiv 2310.05773)."""

from itertools import accumulate
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from ddist.errors import DdistError
from ddist.matching.trajectory import trajectory_distance
from ddist.methods.mtt import MTT
from ddist.networks import Weights
from ddist.seeding import generator
from ddist.settings.ranges import NonNegativeInt, PositiveInt

AT_ONCE = 1000
"""Candidates held as float images at a time: there may be tens of thousands."""


class DATM(MTT):
    """MTT whose window of start epochs grows from the easy patterns of early training to the harder
    ones of later epochs; with learned soft labels that start at the experts' mean logits, on images
    that the experts classify right.

    Args:
        first_max_start_epoch: where the window's end starts; it reaches ``max_start_epoch`` after
            ``growth_steps`` outer steps, linearly.
        candidates: real images of each class, per image that is learned, among which those that
            most experts classify right are taken as a start; 0 leaves the start as it is.
        shallow: the share of the layers, from the first one on, that are not matched (PAD, Li et
            al. 2024, arXiv 2408.03360).
        common: of MTT.
    """

    def __init__(
        self,
        *,
        first_max_start_epoch: PositiveInt,
        growth_steps: NonNegativeInt,
        candidates: NonNegativeInt,
        shallow: Annotated[float, Ge(0), Lt(1)],
        **common: Any,
    ) -> None:
        super().__init__(**common)
        low, high = self.min_start_epoch, self.max_start_epoch
        if not low < first_max_start_epoch <= high:
            raise DdistError(
                f"method.first_max_start_epoch={first_max_start_epoch} is above "
                f"method.min_start_epoch={low} and at most method.max_start_epoch={high}."
            )
        self.first_max_start_epoch, self.growth_steps = first_max_start_epoch, growth_steps
        self.candidates, self.shallow = candidates, shallow

    def start_epochs(self) -> tuple[int, int]:
        grown = min(1.0, self.global_step / max(1, self.growth_steps))
        first, last = self.first_max_start_epoch, self.max_start_epoch
        return self.min_start_epoch, int(first + grown * (last - first))

    def distance(self, end: Weights, target: Weights, start: Weights) -> Tensor:
        return trajectory_distance(end, deeper(target, self.shallow), start)

    def begin(self) -> None:
        if self.candidates:
            wanted = torch.bincount(self.synthetic.classes).to(self.data.device)  # [K]
            per_class = int(wanted.max())
            most = min(self.candidates * per_class, self.data.smallest_class())
            if len(wanted.unique()) > 1:  # small classes have fewer, and their candidates repeat
                most = min(self.candidates * per_class, max(self.data.train.counts))
            rows = self.data.class_indices(most, generator(self.seed, "candidates"))  # [K, most]
            right = self.count_right(rows)
            best = right.argsort(dim=1, descending=True, stable=True)
            places = torch.arange(per_class, device=best.device)
            best = rows.gather(1, best[:, places % most])
            self.synthetic.begin(images=self.data.images(best[places < wanted[:, None]]))
        super().begin()

    def count_right(self, rows: Tensor) -> Tensor:
        """Count, for each of the training images at ``rows`` [K, M], row k holding class k, the
        experts that classify it right: int64 [K, M]."""
        classes = torch.arange(len(rows), device=rows.device).repeat_interleave(rows.shape[1])
        chunks = rows.flatten().split(AT_ONCE)
        asked = self.ask_experts(self.data.images(chunk) for chunk in chunks)
        counts = [
            (logits.argmax(-1) == own).sum(0)
            for logits, own in zip(asked, classes.split(AT_ONCE), strict=True)
        ]
        return torch.cat(counts).view(rows.shape)


def deeper(weights: Weights, share: float) -> Weights:
    """Return the entries of ``weights``, in their order in the network, without those of the first
    ``share`` of its layers. A layer begins with a weight of two dimensions and more."""
    layer = list(accumulate(w.ndim > 1 for w in weights.values()))  # 1, 2, ...
    left_out = int(share * layer[-1])
    return {name: w for (name, w), at in zip(weights.items(), layer, strict=True) if at > left_out}
