"""Several teachers as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddist.teachers.base import Teacher


class Committee(Teacher):
    """Teachers of the same data, whose labels come from the mean of their logits (G-VBSM, Shao et
    al. 2024, arXiv 2311.17950; CV-DD, Cui et al. 2025, arXiv 2501.07575).

    Args:
        members: two and more, whose networks become this one's.
    """

    def __init__(self, *, members: Sequence[Teacher]) -> None:
        super().__init__(nn.ModuleList(m._network for m in members), members[0].source)
        self._members = members

    @property
    def members(self) -> Sequence[Teacher]:
        return self._members

    def load(self, network: nn.Module) -> None:
        """Train or read the members, which share their networks with ``network``."""
        for member in self.members:
            _ = member.network

    def logits(self, x: Tensor) -> Tensor:
        return torch.stack([member.logits(x) for member in self.members]).mean(0)
