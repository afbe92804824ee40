"""Linear probes on features: in closed form, by AdamW, and the gradient of a random one.

Features are [n, F], labels float [n, K]: one-hot, or soft ones. The closed form is computed in
double precision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.matching.kernel import head


@dataclass(frozen=True)
class Probe:
    """A linear layer: ``features @ weight + bias``."""

    weight: Tensor  # [F, K]
    bias: Tensor  # [K]

    def __call__(self, features: Tensor) -> Tensor:
        """Return the logits [n, K]."""
        return features.to(self.weight.dtype) @ self.weight + self.bias


def ridge_probe(features: Tensor, labels: Tensor, ridge: float) -> Probe:
    """Return the probe of least squares with a penalty, whose bias is free (as scikit-learn's Ridge
    with alpha = ``ridge`` tr(C)/n, the C of products of centred features):

        W = Phi' (Phi Phi' + ridge tr(Phi Phi')/n I)^-1 Y,    b = mean(y) - mean(phi) W

    for features Phi and labels Y less their means. Differentiable in both. Solved as it stands
    where there are fewer images than features, else by the same for Phi'Phi.
    """
    phi, y = features.double(), labels.double()
    if len(phi) > phi.shape[1]:
        return Moments.of([(phi, y)]).probe(ridge)
    mean, mean_y = phi.mean(0), y.mean(0)
    weight = head(phi - mean, y - mean_y, ridge)
    return Probe(weight, mean_y - mean @ weight)


@dataclass(frozen=True)
class Moments:
    """Sums over images, which is all that :func:`ridge_probe` needs of them, however many."""

    num: int
    phi: Tensor  # [F], of the features
    y: Tensor  # [K], of the labels
    gram: Tensor  # [F, F], of their products
    cross: Tensor  # [F, K]

    @staticmethod
    def of(batches: Iterable[tuple[Tensor, Tensor]]) -> "Moments":
        """Sum over batches of features [n, F] and labels [n, K]; there is one at least."""
        total: Moments | None = None
        for features, labels in batches:
            phi, y = features.double(), labels.double()
            here = Moments(len(phi), phi.sum(0), y.sum(0), phi.T @ phi, phi.T @ y)
            total = here if total is None else total.plus(here)
        assert total is not None, "a probe needs images"
        return total

    def plus(self, other: "Moments") -> "Moments":
        """Return the sums over the images of both."""
        return Moments(
            self.num + other.num,
            self.phi + other.phi,
            self.y + other.y,
            self.gram + other.gram,
            self.cross + other.cross,
        )

    def probe(self, ridge: float) -> Probe:
        """Return the :func:`ridge_probe` of the images."""
        mean, mean_y = self.phi / self.num, self.y / self.num
        gram = self.gram - self.num * torch.outer(mean, mean)
        cross = self.cross - self.num * torch.outer(mean, mean_y)
        alpha = ridge * gram.diagonal().sum() / self.num
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weight = torch.linalg.solve(gram + alpha * eye, cross)
        return Probe(weight, mean_y - mean @ weight)


def left_out_error(features: Tensor, labels: Tensor, ridge: float, views: int) -> float:
    """Return the mean squared error with which each image's labels are predicted from the others,
    of the kernel ridge regression with one set of means: features [V n, F], of which the rows i, n
    + i, ... are the ``views`` of image i, left out together.

    With A = (Phi Phi' + alpha I)^-1 and c = A Y, what is left out of the rows B misses by
    A_BB^-1 c_B, so that nothing is solved anew.
    """
    phi, y = features.double(), labels.double()
    phi, y = phi - phi.mean(0), y - y.mean(0)
    gram = phi @ phi.T
    alpha = ridge * gram.diagonal().mean()
    inverse = torch.linalg.inv(gram + alpha * torch.eye(len(gram), dtype=gram.dtype).to(gram))
    rows = torch.arange(len(phi), device=phi.device).view(views, -1).T  # [n, V]
    blocks = inverse[rows[:, :, None], rows[:, None, :]]
    missed = torch.linalg.solve(blocks, (inverse @ y)[rows])
    return float(missed.square().mean())


def adamw_probe(
    features: Tensor, labels: Tensor, *, epochs: int, lr: float, weight_decay: float
) -> Probe:
    """Return the probe that AdamW finds from zeros by cross-entropy with labels [n, K], on the
    features [V, n, F] of one of V views of all images at each epoch, in turn; its step size falls
    to 0 along a cosine."""
    size = (features.shape[2], labels.shape[1])
    weight = torch.zeros(size, device=features.device, requires_grad=True)
    bias = torch.zeros(size[1], device=features.device, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with torch.enable_grad():
        for epoch in range(epochs):
            logits = features[epoch % len(features)] @ weight + bias
            loss = F.cross_entropy(logits, labels)
            weight.grad, bias.grad = torch.autograd.grad(loss, [weight, bias])
            optimizer.step()
            schedule.step()
    return Probe(weight.detach(), bias.detach())


def best(candidates: Sequence[float], scores: Sequence[float]) -> float:
    """Return the candidate of the largest score; of equal ones the largest, as it penalises
    most."""
    return max(zip(scores, candidates, strict=True))[1]


def head_gradient(features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Return the gradients [H, F, K] of the mean cross-entropy in heads ``weight`` [H, F, K]
    without biases: Phi' (softmax(Phi W) - Y) / n. Written out, so that its own gradient in the
    features is a first derivative."""
    missed = (features @ weight).softmax(-1) - labels
    return features.T @ missed / len(features)


def cosine_distance(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 - cos, averaged over the heads, of gradients [H, F, K]."""
    return 1 - F.cosine_similarity(one.flatten(1), other.flatten(1), dim=1).mean()
