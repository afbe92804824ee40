"""Distribution Matching (Zhao & Bilen 2023, arXiv 2110.04181)."""

import torch
from torch import Tensor

from ddist.matching.distribution import mean_distance
from ddist.methods.matching import Matching
from ddist.networks import Weights, embed

_AT_ONCE = 64  # real images in one call: their activations fit into a CPU's caches


class DM(Matching):
    """Images whose mean features are those of real images, in networks with fresh random weights.

        min over S of E_{theta ~ p} sum_c | mean f_theta(A(x_real^c)) - mean f_theta(A(x_syn^c)) |^2

    (paper, eq. 5-6). f is the network without its last layer; theta is drawn anew at every outer
    step and never trained.
    """

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        with torch.no_grad():
            parts = x_real.flatten(0, 1).split(_AT_ONCE)
            forward = self.fast(embed)
            real = torch.cat([forward(self.network, weights, part) for part in parts])
        synthetic = embed(self.network, weights, x_syn.flatten(0, 1))
        return mean_distance(
            real.unflatten(0, x_real.shape[:2]), synthetic.unflatten(0, x_syn.shape[:2])
        )
