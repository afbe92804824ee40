"""The steps of a student's training: by gradient descent or Adam, differentiable in everything."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import Module
from torch.nn.functional import cross_entropy

Weights = dict[str, Tensor]
State = dict[str, Tensor]
"""Weights by name, first; then what an optimizer keeps of them: momentum under ``momentum/<name>``,
Adam's moments under ``moment/<name>`` and ``square/<name>``, and its count of steps."""
Batch = tuple[Tensor, ...]
Loss = Callable[[Weights, Batch], Tensor]
Step = Callable[[State, Batch, Tensor], State]

_MOMENTUM = "momentum/"
_MOMENT = "moment/"
_SQUARE = "square/"
_STEPS = "count/steps"


def sgd(loss: Loss, momentum: float = 0.0) -> Step:
    """Return a gradient descent step on ``loss``: v <- momentum v + grad, theta <- theta - eta v.

    Inside ``torch.no_grad()`` the new state carries no graph; otherwise it is differentiable in the
    old state, the batch and the step size (second derivatives of the loss).
    """

    def step(state: State, batch: Batch, step_size: Tensor) -> State:
        weights = only_weights(state)
        gradient = _gradient(loss, weights, batch)
        if momentum:
            gradient = {k: momentum * state[_MOMENTUM + k] + g for k, g in gradient.items()}
        moved = {k: w - step_size * gradient[k] for k, w in weights.items()}
        return moved | {_MOMENTUM + k: g for k, g in gradient.items()} if momentum else moved

    return step


def adam(loss: Loss, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Step:
    """Return a differentiable step of Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1):

        t <- t + 1,    m <- b_1 m + (1 - b_1) grad,    v <- b_2 v + (1 - b_2) grad^2
        theta <- theta - eta m / (1 - b_1^t) / sqrt(v / (1 - b_2^t) + eps^2)

    The state starts as :func:`with_moments` makes it. torch.optim.Adam adds eps to the root, whose
    slope is infinite at v = 0, where a weight has had no gradient. With eps inside the root it is
    finite: the divisor is torch's at v = 0 and at most eps below it elsewhere.
    """

    def step(state: State, batch: Batch, step_size: Tensor) -> State:
        weights = only_weights(state)
        gradient = _gradient(loss, weights, batch)
        steps = state[_STEPS] + 1
        t = steps.detach().item()  # the tensor lies on the CPU: nothing waits for an accelerator
        first, second = (1 - beta**t for beta in betas)
        scaled = step_size * (second**0.5 / first)  # both corrections at once
        moments = {k: torch.lerp(state[_MOMENT + k], g, 1 - betas[0]) for k, g in gradient.items()}
        squares = {
            k: torch.addcmul(betas[1] * state[_SQUARE + k], g, g, value=1 - betas[1])
            for k, g in gradient.items()
        }
        moved = {
            k: w - scaled * (moments[k] / (squares[k] + second * eps**2).sqrt())
            for k, w in weights.items()
        }
        return (
            moved
            | {_MOMENT + k: m for k, m in moments.items()}
            | {_SQUARE + k: v for k, v in squares.items()}
            | {_STEPS: steps}
        )

    return step


def _gradient(loss: Loss, weights: Weights, batch: Batch) -> Weights:
    """Return the gradient in the weights, differentiable unless inside ``torch.no_grad()``."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # Leaves, so that the gradient exists also where theta_0 needs none.
        at = {
            k: v if differentiable and v.requires_grad else v.detach().requires_grad_()
            for k, v in weights.items()
        }
        gradient = torch.autograd.grad(
            loss(at, batch), list(at.values()), create_graph=differentiable
        )
    return dict(zip(at, gradient, strict=True))


def with_momentum(weights: Weights) -> State:
    """Add momentum buffers of zeros to the weights, for :func:`sgd` with ``momentum``."""
    return weights | {_MOMENTUM + k: torch.zeros_like(w) for k, w in weights.items()}


def with_moments(weights: Weights) -> State:
    """Add Adam's moments and count of steps, all zero, to the weights, for :func:`adam`."""
    zeros = {
        kind + k: torch.zeros_like(w) for kind in (_MOMENT, _SQUARE) for k, w in weights.items()
    }
    return weights | zeros | {_STEPS: torch.zeros(())}


def only_weights(state: State) -> Weights:
    """Return the weights alone. (No network's weight has a slash in its name.)"""
    return {k: v for k, v in state.items() if "/" not in k}


def classification_loss(network: Module) -> Loss:
    """Return ``loss(weights, (x, y))``: mean cross-entropy, y [N] or probabilities y [N, K]."""

    def loss(weights: Weights, batch: Batch) -> Tensor:
        x, y = batch
        return cross_entropy(functional_call(network, weights, (x,)), y)

    return loss


def stacked(loss: Loss) -> Loss:
    """Return the sum of ``loss`` over K networks with stacked weights [K, ...], in one vmap call.

    It is a sum, so that each network's gradient is the one it would have alone.
    """

    def total(weights: Weights, batch: Batch) -> Tensor:
        return vmap(loss, in_dims=(0, None))(weights, batch).sum()

    return total
