"""Distribution Matching (Zhao & Bilen 2023, arXiv 2110.04181)."""

from torch import Tensor

from ddist.matching.distribution import mean_distance
from ddist.methods.matching import Matching
from ddist.networks import Weights, embed


class DM(Matching):
    """Images whose mean features are those of real images, in networks with fresh random weights.

        min over S of E_{theta ~ p} sum_c | mean f_theta(A(x_real^c)) - mean f_theta(A(x_syn^c)) |^2

    (paper, eq. 5-6). f is the network without its last layer; theta is drawn anew at every outer
    step and never trained.
    """

    needs_features = True
    tiles = 64  # where they were measured to be better; below they were not tried

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        synthetic = embed(self.network, weights, x_syn.flatten(0, 1))
        return mean_distance(
            self.real_features(weights, x_real), synthetic.unflatten(0, x_syn.shape[:2])
        )
