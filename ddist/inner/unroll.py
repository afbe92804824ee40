"""The inner loop: a student's training as one differentiable function of what it is trained on.

    theta_T = unroll(step, theta_0, batches, step_sizes)

The gradient is exact. Its activation memory is that of one step, whatever T: ``graph="checkpoint"``
keeps only the states theta_t and rebuilds one step's graph at a time on the way back (Maclaurin et
al. 2015; Chen et al. 2016). Options of the same function:

- ``graph="autograd"`` keeps the whole graph: the same numbers, faster where memory is no concern
  (:func:`ddist.inner.parts.fastest_graph` says where).
- ``graph="selective"`` keeps the results of costly convolutions beside the states, so that
  rebuilding takes next to no time; its memory grows with T, but slowly (:mod:`ddist.inner.recall`).
- ``graph="first_order"`` leaves out what an input changes in the steps after its own (TESLA, Cui et
  al. 2022): cheaper, exact for T = 1, biased where T or the step sizes are large.

``torch.utils.checkpoint`` gives the same gradient, but its hooks see every tensor that a step
saves, twice, which takes LeNet 1.4 times as long (docs/log.md).
"""

from collections import deque
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import compress
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ddist.inner.recall import keep, recall
from ddist.inner.steps import Batch, State, Step

Graph = Literal["checkpoint", "selective", "autograd", "first_order"]
Unroll = Graph | Literal["auto"]


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
        initial: theta_0 by name (see :func:`ddist.inner.steps.with_momentum`).
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
        gradients: list[Tensor | None] = [None] * len(ctx.inputs)
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
            reached = [weight.requires_grad for weight in end.values()]
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
                earlier = gradients[places[i]]
                if g is not None:
                    gradients[places[i]] = g if earlier is None else earlier + g
        return (None, None, None, None, *gradient, *gradients)


def _leaf(tensor: Tensor) -> Tensor:
    """Return the values as a leaf that requires a gradient if the original does (classes don't)."""
    return tensor.detach().requires_grad_(tensor.requires_grad)
