"""DD's own protocol: the learned steps, in their order, on networks that training never saw."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.data.split import Split
from ddist.errors import DdistError
from ddist.evaluation.protocol import Context, Course, Protocol, batches_of
from ddist.init import InitialWeights
from ddist.inner.compiled import pays
from ddist.inner.parts import at_once, footprint, shape_of
from ddist.inner.predict import accuracy, predict
from ddist.inner.stacking import Precision, concatenate, keeps_statistics, num_members
from ddist.inner.steps import classification_loss, sgd, stacked
from ddist.inner.unroll import unroll
from ddist.networks import Weights
from ddist.objectives import Objective
from ddist.seeding import generator
from ddist.settings.ranges import Positive, PositiveInt
from ddist.stages.progress import SHORT, Progress

SHOWN = 10  # points of a course, at most, without its start

Steps = list[tuple[Tensor, Tensor]]
"""(images, labels) of each student step."""


class Replay(Protocol):
    """Gradient descent over the steps, with the learned step sizes (Wang et al. 2018, §4).

    A set without step sizes (a baseline) gets the best constant one and the best number of epochs
    of a grid, as in the paper's appendix, but chosen on training images (validation images, where
    some are held out) with training networks: the test set decides nothing.

    Args:
        name: of the protocol, in results.
        num_networks: held-out networks.
        step_size_grid, epoch_grid: what a set without step sizes is tried with.
        tuning_networks, tuning_images: how many networks and images judge the grid.
        chunk: networks trained and tested at a time, which bounds the memory.
    """

    shows_networks = True

    def __init__(
        self,
        *,
        name: str,
        num_networks: PositiveInt,
        step_size_grid: Annotated[Sequence[Positive], MinLen(1)],
        epoch_grid: Annotated[Sequence[PositiveInt], MinLen(1)],
        tuning_networks: PositiveInt,
        tuning_images: PositiveInt,
        chunk: PositiveInt,
    ) -> None:
        self.name = name
        self.num_networks = self.num_held_out = num_networks
        self.step_size_grid, self.epoch_grid = list(step_size_grid), sorted(epoch_grid)
        self.tuning_networks, self.tuning_images = tuning_networks, tuning_images
        self.chunk = chunk

    def check_precision(self, precision: Precision) -> None:
        """Raise a DdistError for mixed precision: vmap, which trains the networks together, loses
        autocast on its way to convolutions."""
        if precision != "32-true":
            raise DdistError(
                "Learned steps are replayed in 32-true only: set evaluation.precision=32-true, or "
                "choose another evaluation."
            )

    def check_network(self, network: nn.Module, init: InitialWeights) -> None:
        """Raise a DdistError for batch normalisation: vmap, which trains the networks together,
        cannot update running statistics."""
        if keeps_statistics(network):
            raise DdistError(
                "Learned steps are replayed without the running statistics of batch normalisation: "
                "set network.norm=instance (or another), evaluation.without_batch_norm=true, or "
                "choose another evaluation."
            )

    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        if distilled.weights is not None:
            raise DdistError(
                "Replaying knows no weights of samples, which this set has: choose another "
                "protocol, such as evaluation=dc2021."
            )
        data, split, network = context.data, context.split, context.network
        steps = steps_of(distilled, data.device)
        chosen: dict[str, float] = {}
        if distilled.step_sizes is None:
            more = distilled.meta.get("student_epochs")
            size, epochs = self.tune(steps, context, more)
            chosen = {"step_size": size, "epochs": epochs}
        step_sizes = sizes_of(distilled, chosen, len(steps))
        start = context.init.held_out(network, self.num_networks)
        compiled = pays(context.compile, network, split.x[:1], num_members(start) * len(split))
        accuracies: list[Tensor] = []
        with Progress("evaluating", "networks", num_members(start), quiet=SHORT) as progress:
            for weights in in_chunks(start, self.chunk):
                trained = replay(network, weights, steps, step_sizes.to(data.device))
                asked = batches_of(data, split)
                right = accuracy(
                    network, trained, asked, compiled=compiled, confusion=context.confusion
                )
                accuracies.append(right)
                if context.watch is not None:
                    context.watch(trained)
                progress.to(sum(map(len, accuracies)))
        return torch.cat(accuracies).cpu(), chosen

    def course(
        self, distilled: DistilledDataset, context: Context, chosen: Mapping[str, float]
    ) -> Course:
        data, network, objective = context.data, context.network, context.objective
        if objective is None:
            return {}
        steps = steps_of(distilled, data.device)
        sizes = sizes_of(distilled, chosen, len(steps)).to(data.device).flatten()
        stops = shown_steps(len(sizes))
        start = context.init.held_out(network, self.num_networks)
        curves_by_measure: dict[str, list[list[Tensor]]] = {name: [] for name in objective.measures}
        for weights in in_chunks(start, self.chunk):
            curves: dict[str, list[Tensor]] = {name: [] for name in curves_by_measure}
            for before, stop in zip([0, *stops], stops, strict=False):
                parts = [steps[t % len(steps)] for t in range(before, stop)]
                weights = replay(network, weights, parts, sizes[None, before:stop])
                asked = [
                    (predict(network, weights, x).argmax(-1).cpu(), y.cpu())
                    for x, y in batches_of(data, context.split)
                ]
                predicted, y = (torch.cat(parts, -1) for parts in zip(*asked, strict=True))
                for name, measure in objective.measures.items():
                    curves[name].append(measure(predicted, y))
            for name, curve in curves.items():
                curves_by_measure[name].append(curve)
        stacked_up = {
            name: torch.cat([torch.stack(curve, 1) for curve in curves])  # [K, stops]
            for name, curves in curves_by_measure.items()
        }
        return {"steps": stops} | {
            f"{name}_{kind}": values.tolist()
            for name, curve_set in stacked_up.items()
            for kind, values in (
                ("mean", curve_set.mean(0)),
                ("std", curve_set.std(0, unbiased=len(curve_set) > 1)),
            )
        }

    def before(self, context: Context) -> Tensor | None:
        start = context.init.held_out(context.network, self.num_networks)
        return accuracy(context.network, start, batches_of(context.data, context.split)).cpu()

    def tune(
        self, steps: Steps, context: Context, more_epochs: int | None = None
    ) -> tuple[float, int]:
        """Return the grid's step size and number of epochs with the best accuracy; ``more_epochs``
        joins the grid, so that a baseline may train for as long as what it is compared with."""
        epoch_grid = sorted({*self.epoch_grid, *([more_epochs] if more_epochs else [])})
        if context.objective is not None and more_epochs:
            epoch_grid = [more_epochs]  # what is asked is how far so many steps go
        data, network, init = context.data, context.network, context.init
        images = tuning_split(data, self.tuning_images, context.seed)
        start = init.draw(network, init.different(self.tuning_networks), "tune")
        best = (-1.0, self.step_size_grid[0], epoch_grid[0])
        with Progress("tuning", "step sizes", len(self.step_size_grid), quiet=SHORT) as progress:
            for number, size in enumerate(self.step_size_grid):
                weights, done = start, 0
                for epochs in epoch_grid:
                    sizes = torch.full((epochs - done, len(steps)), size, device=data.device)
                    weights, done = replay(network, weights, steps, sizes), epochs
                    batches = as_wanted(batches_of(data, images), context.objective)
                    score = float(accuracy(network, weights, batches).mean())
                    if score > best[0]:
                        best = (score, size, epochs)
                progress.to(number + 1)
        return best[1], best[2]


def replay(network: nn.Module, weights: Weights, steps: Steps, step_sizes: Tensor) -> Weights:
    """Train K networks (stacked [K, ...]) over the S steps with step_sizes [E, S], without a graph,
    as many at a time as memory allows."""
    if not steps:
        return weights
    images = steps[0][0]
    largest = max(len(x) for x, _ in steps)
    bytes_of_one = footprint(network, shape_of(images)).gradient(largest)
    most = at_once(bytes_of_one, images.device)
    if num_members(weights) > most:
        stacks = (
            {name: w[k : k + most] for name, w in weights.items()}
            for k in range(0, num_members(weights), most)
        )
        return concatenate([replay(network, stack, steps, step_sizes) for stack in stacks])
    with torch.no_grad():
        return unroll(
            sgd(stacked(classification_loss(network))),
            weights,
            steps * len(step_sizes),
            step_sizes.flatten().unbind(),
        )


def sizes_of(distilled: DistilledDataset, chosen: Mapping[str, float], num_steps: int) -> Tensor:
    """Return the learned step sizes [E, S], or the ``chosen`` one for a set without."""
    if distilled.step_sizes is not None:
        return distilled.step_sizes
    return torch.full((int(chosen["epochs"]), num_steps), chosen["step_size"])


def shown_steps(num: int) -> list[int]:
    """Return after how many of ``num`` steps to measure: 0, all, and evenly in between."""
    points = min(num, SHOWN)
    return [0, *(round(num * k / points) for k in range(1, points + 1))]


def as_wanted(
    batches: Iterable[tuple[Tensor, Tensor]], objective: Objective | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images with the labels that the objective wants for them."""
    for x, y in batches:
        yield x, y if objective is None else objective.targets(y)


def steps_of(distilled: DistilledDataset, device: torch.device) -> Steps:
    """Return the images and labels of each student step; all in one step if the set has none."""
    index = distilled.step_index
    members = [None] if index is None else [index == step for step in range(int(index.max()) + 1)]
    examples = [distilled.examples(rows) for rows in members]
    return [(images.to(device), labels.to(device)) for images, labels, _ in examples]


def tuning_split(data: RealData, size: int, seed: int) -> Split:
    """Draw at most ``size`` images to choose settings on: validation images if any, or training."""
    source = data.train if data.validation is None else data.validation
    order = torch.randperm(len(source), generator=generator(seed, "tuning"))[:size]
    return source.take(order.to(source.y.device))


def in_chunks(weights: Weights, size: int) -> Iterator[Weights]:
    """Yield stacked weights [K, ...] as stacks of at most ``size``."""
    for start in range(0, num_members(weights), size):
        yield {name: w[start : start + size] for name, w in weights.items()}
