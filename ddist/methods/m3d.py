"""M3D: minimising the maximum mean discrepancy (Zhang et al. 2024, arXiv 2312.15927)."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor

from ddist.matching.discrepancy import mean_discrepancy
from ddist.methods.matching import Matching
from ddist.networks import Weights, embed
from ddist.settings.ranges import Positive


class M3D(Matching):
    """DM in the space of a kernel, where equal means are equal distributions:

        min over S of E_{theta ~ p} sum_c | mean phi(f_theta(A(x_real^c)))
                                            - mean phi(f_theta(A(x_syn^c))) |^2,

    with <phi(a), phi(b)> a mean of Gaussian kernels (see :mod:`ddist.matching.discrepancy`).

    Args:
        scales: widths of the kernels, in mean squared distances of real features.
    """

    needs_features = True

    def __init__(self, *, scales: Annotated[Sequence[Positive], MinLen(1)], **common: Any) -> None:
        super().__init__(**common)
        self.scales = torch.tensor(scales)

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        real = self.real_features(weights, x_real)
        synthetic = embed(self.network, weights, x_syn.flatten(0, 1)).unflatten(0, x_syn.shape[:2])
        exact = torch.promote_types(real.dtype, torch.float32)
        with torch.autocast(x_syn.device.type, enabled=False):  # differences of large squares
            return mean_discrepancy(real.to(exact), synthetic.to(exact), self.scales)
