"""CLP-DD: distillation with a linear probe in closed form (Peng et al. 2026, arXiv 2605.07194)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ddist.matching.probe import ridge_probe
from ddist.methods.probing import Probing
from ddist.settings.ranges import NonNegative, Positive


class CLP(Probing):
    """Images whose features have a linear probe, in closed form, that is right about real images.

        min over x of  E_A  mean_t CE( (phi_t W + b) / T, y_t )
        W = Phi' (Phi Phi' + lambda tr(Phi Phi')/n I)^-1 Y,    Phi = f(A(x)) less its mean

    for the features phi_t of real images under the fixed network f and the labels Y, less their
    mean, of all V views A of the images together; b makes the means fit (see
    :func:`ddist.matching.probe.ridge_probe`). As the probe is solved and not trained, nothing is
    unrolled: the gradient goes through one solution and the features of the views.

    Args:
        ridge: lambda.
        temperature: T; the probe's outputs are near 0 and 1.
    """

    def __init__(self, *, ridge: NonNegative, temperature: Positive, **common: Any) -> None:
        super().__init__(**common)
        self.ridge, self.temperature = ridge, temperature

    def match(self, phi_syn: Tensor, y_syn: Tensor, phi_real: Tensor, y_real: Tensor) -> Tensor:
        logits = ridge_probe(phi_syn, y_syn, self.ridge)(phi_real)
        return F.cross_entropy(logits / self.temperature, y_real.to(logits))
