"""The inner loop: a student's training as one differentiable function of what it is trained on.

    theta_T = unroll(step, theta_0, batches, step_sizes)

The gradient is exact. Its activation memory is that of one step, whatever T: ``graph="checkpoint"``
keeps only the states theta_t and rebuilds one step's graph at a time on the way back (Maclaurin et
al. 2015; Chen et al. 2016). Options of the same function:

- ``graph="autograd"`` keeps the whole graph: the same numbers, faster where memory is no concern.
- ``graph="selective"`` keeps the results of costly convolutions beside the states, so that
  rebuilding takes next to no time; its memory grows with T, but slowly (:mod:`ddist.inner.recall`).
- ``graph="first_order"`` leaves out what an input changes in the steps after its own (TESLA, Cui et
  al. 2022): cheaper, exact for T = 1, biased where T or the step sizes are large.

``torch.utils.checkpoint`` gives the same gradient, but its hooks see every tensor that a step
saves, twice, which takes LeNet 1.4 times as long (RESULTS.md).
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import compress
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call, vmap
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ddist.inner.recall import keep, recall

Weights = dict[str, Tensor]
State = dict[str, Tensor]
"""Weights by name, first; then what an optimizer keeps of them: momentum under ``momentum/<name>``,
Adam's moments under ``moment/<name>`` and ``square/<name>``, and its count of steps."""
Batch = tuple[Tensor, ...]
Loss = Callable[[Weights, Batch], Tensor]
Step = Callable[[State, Batch, Tensor], State]
Graph = Literal["checkpoint", "selective", "autograd", "first_order"]

_MOMENTUM = "momentum/"
_MOMENT = "moment/"
_SQUARE = "square/"
_STEPS = "count/steps"


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
        initial: theta_0 by name (see :func:`with_momentum` and :func:`with_moments`).
        batches: T tuples of tensors.
        step_sizes: T scalars.
        graph: "checkpoint" (memory of one step), "selective" (that, and the convolutions' results
            of every step), "autograd" (memory of all steps) or "first_order" (memory of one step;
            an approximation).
        window: differentiate only the last ``window`` steps (truncated backpropagation through
            time); the steps before run without a graph. None: all.
    """
    schedule = list(zip(batches, step_sizes, strict=True))
    first = 0 if window is None else max(0, len(schedule) - window)
    if not torch.is_grad_enabled():
        first = len(schedule)
    with torch.no_grad():
        state = _run(step, initial, schedule[:first])
    if graph == "autograd":
        return _run(step, state, schedule[first:])
    # Tensors that come again (epochs over the same images) get one gradient, not one per step.
    inputs = {id(t): t for batch, size in schedule[first:] for t in (*batch, size)}
    place = {key: i for i, key in enumerate(inputs)}
    plan = [[place[id(t)] for t in (*batch, size)] for batch, size in schedule[first:]]
    end = _Rebuilt.apply(step, graph, tuple(state), plan, *state.values(), *inputs.values())
    return dict(zip(state, end, strict=True))


def _run(step: Step, state: State, schedule: Iterable[tuple[Batch, Tensor]]) -> State:
    for batch, step_size in schedule:
        state = step(state, batch, step_size)
    return state


class _Rebuilt(torch.autograd.Function):
    """All steps as one node of the graph: forwards it keeps the states alone, backwards it rebuilds
    one step's graph at a time and pulls the gradient of the state through it."""

    @staticmethod
    def forward(
        ctx: Any,
        step: Step,
        graph: Graph,
        names: tuple[str, ...],
        plan: list[list[int]],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Take all steps. ``plan`` holds, for each step, the places of its batch and step size
        among the tensors after the state's, which are called ``names``. ``ctx.exact``: pull the
        gradient through the steps; otherwise each step gets that of the end."""
        state = dict(zip(names, tensors[: len(names)], strict=True))
        ctx.step, ctx.exact, ctx.plan, ctx.states = step, graph != "first_order", plan, []
        ctx.kept = [deque() for _ in plan] if graph == "selective" else []
        ctx.inputs = tensors[len(names) :]
        device = tensors[0].device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        for places in plan:
            ctx.states.append(state)
            *batch, step_size = (ctx.inputs[place] for place in places)
            with keep(ctx.kept[len(ctx.states) - 1]) if ctx.kept else nullcontext():
                state = step(state, tuple(batch), step_size)
        return tuple(state.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = [None] * len(ctx.inputs)
        for number, places in reversed(list(enumerate(ctx.plan))):
            before = ctx.states[number]
            state = {k: v.detach().requires_grad_(ctx.exact) for k, v in before.items()}
            inputs = [_leaf(ctx.inputs[place]) for place in places]
            known = recall(ctx.kept[number]) if ctx.kept else nullcontext()
            with torch.enable_grad(), torch.autocast(*ctx.autocast), known:
                end = ctx.step(state, tuple(inputs[:-1]), inputs[-1])
            learned = [i for i, tensor in enumerate(inputs) if tensor.requires_grad]
            through = list(state.values()) if ctx.exact else []
            wanted = [*through, *(inputs[i] for i in learned)]
            if not wanted:
                break
            # Not all that a step gives has a graph: Adam's count of steps, where it came without.
            reached = [each.requires_grad for each in end.values()]
            pulled = torch.autograd.grad(
                list(compress(end.values(), reached)),
                wanted,
                list(compress(gradient, reached)),
                allow_unused=True,
            )
            if ctx.exact:
                gradient = tuple(
                    torch.zeros_like(v) if g is None else g
                    for v, g in zip(through, pulled, strict=False)
                )
            for i, g in zip(learned, pulled[len(through) :], strict=True):
                earlier = found[places[i]]
                if g is not None:
                    found[places[i]] = g if earlier is None else earlier + g
        return (None, None, None, None, *gradient, *found)


def _leaf(tensor: Tensor) -> Tensor:
    """Return the values as a leaf that requires a gradient if the original does (classes don't)."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


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
