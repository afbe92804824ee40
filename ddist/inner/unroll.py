"""The inner loop: a student's training as one differentiable function of what it is trained on.

    theta_T = unroll(step, theta_0, batches, step_sizes)

The gradient is exact. Its activation memory is that of one step, whatever T: ``graph="checkpoint"``
keeps only the states theta_t and rebuilds one step's graph at a time on the way back (non-reentrant
checkpointing, Chen et al. 2016). ``graph="autograd"`` keeps the whole graph: the same numbers,
faster where memory is no concern.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

Weights = dict[str, Tensor]
State = dict[str, Tensor]
"""Weights by name; with momentum, its buffers beside them under ``momentum/<name>``."""
Batch = tuple[Tensor, ...]
Loss = Callable[[Weights, Batch], Tensor]
Step = Callable[[State, Batch, Tensor], State]
Graph = Literal["checkpoint", "autograd"]

_MOMENTUM = "momentum/"


def unroll(
    step: Step,
    initial: State,
    batches: Iterable[Batch],
    step_sizes: Iterable[Tensor],
    *,
    graph: Graph = "checkpoint",
    window: int | None = None,
) -> State:
    """Take one step per batch and return the last state, differentiable in every argument.

    Args:
        step: ``step(state, batch, step_size) -> state``; all that is learned must come in through
            its arguments, because checkpointing calls it again.
        initial: theta_0 by name (and momentum buffers, see :func:`with_momentum`).
        batches: T tuples of tensors.
        step_sizes: T scalars.
        graph: "checkpoint" (memory of one step) or "autograd" (memory grows with T).
        window: differentiate only the last ``window`` steps (truncated backpropagation through
            time); the steps before run without a graph. None: all.
    """
    if graph not in ("checkpoint", "autograd"):
        raise ValueError(f"graph must be 'checkpoint' or 'autograd', got {graph!r}")
    schedule = list(zip(batches, step_sizes, strict=True))
    first = 0 if window is None else max(0, len(schedule) - window)
    state = initial
    for t, (batch, step_size) in enumerate(schedule):
        if t < first or not torch.is_grad_enabled():
            with torch.no_grad():
                state = step(state, batch, step_size)
        elif graph == "checkpoint":
            state = checkpoint(
                step, state, batch, step_size, use_reentrant=False, preserve_rng_state=False
            )
        else:
            state = step(state, batch, step_size)
    return state


def sgd(loss: Loss, momentum: float = 0.0) -> Step:
    """One step of gradient descent on ``loss``: v <- momentum v + grad, theta <- theta - eta v.

    Inside ``torch.no_grad()`` the new state carries no graph; otherwise it is differentiable in the
    old state, the batch and the step size (second derivatives of the loss).
    """

    def step(state: State, batch: Batch, step_size: Tensor) -> State:
        differentiable = torch.is_grad_enabled()
        weights = {k: v for k, v in state.items() if not k.startswith(_MOMENTUM)}
        with torch.enable_grad():
            # Leaves, so that the gradient exists also where theta_0 needs none.
            at = {
                k: v if differentiable and v.requires_grad else v.detach().requires_grad_()
                for k, v in weights.items()
            }
            gradient = dict(
                zip(
                    at,
                    torch.autograd.grad(
                        loss(at, batch), list(at.values()), create_graph=differentiable
                    ),
                    strict=True,
                )
            )
        if momentum:
            gradient = {k: momentum * state[_MOMENTUM + k] + g for k, g in gradient.items()}
        moved = {k: w - step_size * gradient[k] for k, w in weights.items()}
        return moved | {_MOMENTUM + k: g for k, g in gradient.items()} if momentum else moved

    return step


def with_momentum(weights: Weights) -> State:
    """The weights with momentum buffers of zeros, for :func:`sgd` with ``momentum``."""
    return weights | {_MOMENTUM + k: torch.zeros_like(w) for k, w in weights.items()}


def without_momentum(state: State) -> Weights:
    """The weights alone."""
    return {k: v for k, v in state.items() if not k.startswith(_MOMENTUM)}


def classification_loss(network: Module) -> Loss:
    """``loss(weights, (x, y))``: mean cross-entropy, y [N] classes or [N, K] probabilities."""

    def loss(weights: Weights, batch: Batch) -> Tensor:
        x, y = batch
        return cross_entropy(functional_call(network, weights, (x,)), y)

    return loss


def stacked(loss: Loss) -> Loss:
    """The sum of ``loss`` over K networks with stacked weights [K, ...], in one vectorised pass.

    A sum, so that each network's gradient is the one it would have alone.
    """

    def total(weights: Weights, batch: Batch) -> Tensor:
        return vmap(loss, in_dims=(0, None))(weights, batch).sum()

    return total
