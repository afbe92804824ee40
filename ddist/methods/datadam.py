"""DataDAM: attention matching (Sajedi et al. 2023, arXiv 2310.00093)."""

from typing import Any

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.matching.attention import attention
from ddist.matching.distribution import mean_distance
from ddist.methods.cafe import layer_outputs
from ddist.methods.matching import Matching
from ddist.networks import Weights
from ddist.settings.ranges import NonNegative, Positive


class DataDAM(Matching):
    """Images on which networks look where they look on real ones, in every layer but the last, and
    whose last features have the same mean.

        min over S of  E_theta sum_c  sum_{l < L} | mean a_l(A(x_real^c)) - mean a_l(A(x_syn^c)) |^2
                                      + lambda | mean f_L(A(x_real^c)) - mean f_L(A(x_syn^c)) |^2

    (eq. 4-6) with a_l the attention of layer l (see :mod:`ddist.matching.attention`).

    Args:
        power: of activations in the attention.
        balance: lambda.
    """

    needs_features = True
    least_depth = 2  # only layers before the last are compared

    def __init__(self, *, power: Positive, balance: NonNegative, **common: Any) -> None:
        super().__init__(**common)
        self.power, self.balance = power, balance
        weights = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        like = next(self.network.parameters())
        with torch.no_grad():
            layers = self.layers(weights, like.new_zeros(1, *self.data.image_shape))
        if len(layers) == 1:
            raise DdistError(
                "method=datadam compares feature maps of layers before the last, which this "
                "network has not: choose network=convnet of depth 2 or more, or another method."
            )

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        with torch.no_grad():
            parts = self.real_parts(x_real.flatten(0, 1))
            layers = zip(*(self.layers(weights, x) for x in parts), strict=True)
            *real, features = (torch.cat(layer) for layer in layers)
        *synthetic, own = self.layers(weights, x_syn.flatten(0, 1))

        def apart(real: Tensor, own: Tensor) -> Tensor:
            return mean_distance(*(x.unflatten(0, (len(classes), -1)) for x in (real, own)))

        looks = [apart(r, s) for r, s in zip(real, synthetic, strict=True)]
        return torch.stack(looks).sum() + self.balance * apart(features, own)

    def layers(self, weights: Weights, x: Tensor) -> list[Tensor]:
        """Return the attention [N, H W] of the layers before the last one for images
        [N, C, H, W], and the last features [N, F]."""
        *maps, _, features = layer_outputs(self.network, weights, x)
        return [*(attention(m, self.power) for m in maps if m.ndim == 4), features]
