"""NCFM: matching neural characteristic functions (Wang et al. 2025, arXiv 2502.20653)."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, normalize

from ddist.errors import DdistError
from ddist.init import Pretrained
from ddist.matching.characteristic import characteristic_distance
from ddist.methods.matching import Matching
from ddist.networks import Weights, embed
from ddist.seeding import generator
from ddist.settings.auto import SMALLEST_CUT
from ddist.settings.ranges import NonNegative, PositiveInt, Share

_TRAINED = "trained "  # before the names of a second network's weights


class NCFM(Matching):
    """Images whose features have the distribution of real ones': the same characteristic function.

        min over S of  E_theta sum_c  s E_t D(phi_(x_real^c)(t), phi_(x_syn^c)(t))
                       + w mean CE(net_theta1(A(x_syn^c)), c),
        phi_x(t) = mean exp(i <t, f_theta(A(x)) / |f_theta(A(x))|>),   t ~ N(0, I)

    D weighs amplitude and phase, see :mod:`ddist.matching.characteristic`. With pre-trained
    networks f_theta lies on the straight line from where a network's weights started to theta1,
    where training took them, at a random place; the cross-entropy calibrates S by theta1. With
    others theta is a draw of ``init``, and there is no calibration.

    The paper's frequencies come from a small network that maximises D against S; the authors'
    published settings draw Gaussian ones, and so does this.

    Args:
        num_frequencies: draws of t in an outer step, common to classes.
        alpha: the weight of amplitudes, 0 to 1.
        scale: s.
        calibration: w; above 0 it needs pre-trained networks.
    """

    needs_features = True
    tiles = SMALLEST_CUT

    def __init__(
        self,
        *,
        num_frequencies: PositiveInt,
        alpha: Share,
        scale: NonNegative,
        calibration: NonNegative,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if calibration and not isinstance(self.init, Pretrained):
            raise DdistError(
                "method.calibration judges the images by trained networks: choose init=experts or "
                "init=pretrained, or set method.calibration=0."
            )
        self.num_frequencies, self.alpha, self.scale = num_frequencies, alpha, scale
        self.calibration = calibration

    def networks_of_step(self) -> Weights:
        """Return the networks of this outer step. Pre-trained ones are mixed with their start, and
        have the same networks at the end of training beside them."""
        if not isinstance(self.init, Pretrained):
            return super().networks_of_step()
        keys = (self.global_rank, self.batch_number())
        last = self.init.draw(self.network, self.num_networks, *keys)
        first = self.init.start(self.network, self.num_networks, *keys)
        places = torch.rand(self.num_networks, generator=generator(self.seed, "mix", *keys))
        mixed = {
            name: torch.lerp(first[name], w, places.to(w).view(-1, *[1] * (w.ndim - 1)))
            for name, w in last.items()
        }
        return mixed | {_TRAINED + name: w for name, w in last.items()}

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        synthetic = embed(self.network, weights, x_syn.flatten(0, 1))
        distance = characteristic_distance(
            normalize(self.real_features(weights, x_real), dim=2),
            normalize(synthetic).unflatten(0, x_syn.shape[:2]),
            self.frequencies(synthetic),
            self.alpha,
        )
        if not self.calibration:
            return self.scale * distance
        return self.scale * distance + self.calibration * self.surprise(weights, x_syn, classes)

    def surprise(self, weights: Weights, x: Tensor, classes: Tensor) -> Tensor:
        """Return the trained network's mean cross-entropy on each class's images [k, M, C, H, W],
        summed over ``classes`` [k]."""
        trained = {
            name.removeprefix(_TRAINED): w
            for name, w in weights.items()
            if name.startswith(_TRAINED)
        }
        logits = functional_call(self.network, trained, (x.flatten(0, 1),))
        labels = classes.to(x.device).repeat_interleave(x.shape[1])
        return cross_entropy(logits, labels, reduction="sum") / x.shape[1]

    def frequencies(self, features: Tensor) -> Tensor:
        """Draw the t of this outer step [T, F], for ``features`` [N, F]."""
        keys = ("frequencies", self.global_rank, self.batch_number())
        stream = generator(self.seed, *keys, device=features.device)
        shape = (self.num_frequencies, features.shape[1])
        return torch.randn(shape, generator=stream, device=features.device).to(features.dtype)
