"""What every network here has in common: a body that makes features and a linear head.

Networks are *stateless functions*: the weights a network computes with come from outside, as
``torch.func.functional_call(network, weights, x)``. The parameters a module is born with are
never used; ``ddist.init`` draws the weights, from explicit generators.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ddist.errors import DdistError

Weights = dict[str, Tensor]
"""Parameters by name. *Stacked* weights hold K networks: every tensor has a leading dimension K.
What `ddist.inner.fit` returns for a network with batch normalisation holds its running statistics
too."""

ImageShape = tuple[int, int, int]
"""Channels, height, width."""


class Network(nn.Module):
    """``forward(x) = head(features(x))`` for images ``x`` [N, C, H, W].

    ``body`` maps images to features of any shape, ``features`` flattens them to [N, F] (the
    penultimate layer), ``head`` maps them to logits [N, num_classes].
    """

    def __init__(self, body: nn.Module, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.body = body
        self.num_features = _num_features(body, image_shape)
        self.num_classes = num_classes
        self.image_shape = image_shape
        self.head = nn.Linear(self.num_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.body(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x)))


def require_side(name: str, image_shape: ImageShape, smallest: int) -> None:
    """Raise a DdistError if images are too small for the network ``name``."""
    _, height, width = image_shape
    if min(height, width) < smallest:
        raise DdistError(
            f"{name} needs images of at least {smallest}x{smallest} pixels, but these are "
            f"{height}x{width}: choose a smaller network (network=mlp) or set "
            f"dataset.size={smallest}."
        )


def _num_features(body: nn.Module, image_shape: ImageShape) -> int:
    # In eval mode, so that normalisation layers accept a single image and keep no trace of it.
    with torch.no_grad():
        features = body.eval()(torch.zeros(1, *image_shape)).numel()
    body.train()
    return int(features)
