"""Linear gradient matching (Cazenavette et al. 2025, arXiv 2511.16674)."""

from typing import Any

import torch
from torch import Tensor

from ddist.matching.probe import cosine_distance, head_gradient
from ddist.methods.probing import Probing
from ddist.seeding import generator
from ddist.settings.ranges import Positive, PositiveInt


class LGM(Probing):
    """Images whose features give a random linear head the gradient that real images give it.

        min over x of  E_{W ~ N(0, s^2)}
            1 - cos( grad_W l(W; f(A(x)), y), grad_W l(W; f(x_t), y_t) )

    for the cross-entropy l of a head W without bias on the features of the fixed network f; new
    heads are drawn at every outer step. The gradient in a head is written out (see
    :func:`ddist.matching.probe.head_gradient`), so that no second derivative is needed.

    Args:
        num_heads: drawn at every outer step, whose distances are averaged (the paper has one; they
            cost next to nothing beside the views' pass through the network).
        head_std: s; 1 in the paper, 0.01 in the authors' code. The larger it is for features of
            some length, the surer a random head is of a random class, and the less its gradient
            says of the images' own classes.
    """

    def __init__(self, *, num_heads: PositiveInt, head_std: Positive, **common: Any) -> None:
        super().__init__(**common)
        self.num_heads, self.head_std = num_heads, head_std

    def match(self, phi_syn: Tensor, y_syn: Tensor, phi_real: Tensor, y_real: Tensor) -> Tensor:
        stream = generator(self.seed, "heads", self.global_rank, self.batch_number())
        shape = (self.num_heads, phi_syn.shape[1], y_syn.shape[1])
        heads = self.head_std * torch.randn(shape, generator=stream).to(phi_syn)
        real = head_gradient(phi_real, y_real, heads)
        return cosine_distance(head_gradient(phi_syn, y_syn, heads), real)
