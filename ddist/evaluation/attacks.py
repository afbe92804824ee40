"""Adversarial images: how much of a network's accuracy is left where each pixel may move a little.

Pixels are in [0, 1], and ``eps`` in their units: 8/255 is 0.0314.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist.data import RealData
from ddist.data.ondisk import parts
from ddist.data.split import Split
from ddist.inner.stacking import member, mode, num_members
from ddist.networks import Weights
from ddist.seeding import generator

Gradient = Callable[[Tensor], Tensor]
"""The gradient of the loss with respect to pixels [N, C, H, W], at these."""

AT_ONCE = 250  # images that are attacked at a time
OVERSHOOT = 2.5  # by which the steps of PGD together reach further than eps (Madry et al. 2018)


def fgsm(gradient: Gradient, pixels: Tensor, eps: float) -> Tensor:
    """Return ``pixels`` moved by ``eps`` along the signs of the gradient, within [0, 1]: the fast
    gradient sign method (Goodfellow et al. 2015, section 4)."""
    return (pixels + eps * gradient(pixels).sign()).clamp(0, 1)


def pgd(
    gradient: Gradient, pixels: Tensor, eps: float, steps: int, stream: torch.Generator
) -> Tensor:
    """Return ``pixels`` after ``steps`` such steps, from a random place within ``eps`` of each, to
    which they are brought back: projected gradient descent (Madry et al. 2018, section 2.1)."""
    noise = torch.rand(pixels.shape, generator=stream).to(pixels.device)
    x = (pixels + eps * (2 * noise - 1)).clamp(0, 1)
    for _ in range(steps):
        x = x + OVERSHOOT * eps / steps * gradient(x).sign()
        x = x.clamp(pixels - eps, pixels + eps).clamp(0, 1)
    return x


def loss_gradient(
    network: nn.Module,
    weights: Weights,
    normalize: Callable[[Tensor], Tensor],
    y: Tensor,
    x: Tensor,
) -> Tensor:
    """Return the gradient with respect to pixels ``x`` of one network's cross-entropy for the
    classes ``y``, summed over images, which therefore do not depend on each other."""
    with torch.enable_grad():
        pixels = x.detach().requires_grad_()
        logits = functional_call(network, weights, (normalize(pixels),))
        (gradient,) = torch.autograd.grad(cross_entropy(logits, y, reduction="sum"), pixels)
    return gradient


@dataclass(frozen=True)
class Attacks:
    """The attacks that networks are tested under.

    Args:
        names: of the attacks, of ``fgsm`` and ``pgd``.
        eps: the most that a pixel may move.
        steps: of pgd.
        images: of the split that are attacked, at most, evenly spaced.
    """

    names: tuple[str, ...]
    eps: float
    steps: int
    images: int

    def accuracies(
        self, network: nn.Module, weights: Weights, data: RealData, split: Split, seed: int
    ) -> Mapping[str, Tensor]:
        """Return under ``clean``, where nothing is moved, and the name of each attack the accuracy
        [K] of each of the stacked ``weights`` [K, ...] on the same images of ``split``."""
        few = split.at_most(self.images)
        correct = {name: torch.zeros(num_members(weights)) for name in ("clean", *self.names)}
        with mode(network, training=False):
            for k in range(num_members(weights)):
                one, stream = member(weights, k), generator(seed, "attack", k)
                for x, y in zip(parts(few.x, AT_ONCE), few.y.split(AT_ONCE), strict=True):
                    gradient = partial(loss_gradient, network, one, data.normalization, y)
                    for name, right in correct.items():
                        moved = self.moved(name, gradient, x.float() / 255, stream)
                        with torch.no_grad():
                            logits = functional_call(network, one, (data.normalization(moved),))
                        right[k] += (logits.argmax(1) == y).sum().cpu()
        return {name: right.double() / len(few) for name, right in correct.items()}

    def moved(
        self, name: str, gradient: Gradient, pixels: Tensor, stream: torch.Generator
    ) -> Tensor:
        """Return ``pixels`` as the attack ``name`` moves them."""
        match name:
            case "fgsm":
                return fgsm(gradient, pixels, self.eps)
            case "pgd":
                return pgd(gradient, pixels, self.eps, self.steps, stream)
            case _:
                return pixels


def attacks_of(robust: Mapping[str, Any]) -> Attacks | None:
    """Return the attacks of the settings ``evaluation.robust``; None where these name none."""
    names = robust["attacks"] or []
    options = {key: robust[key] for key in ("eps", "steps", "images")}
    return (
        Attacks(tuple([names] if isinstance(names, str) else names), **options) if names else None
    )
