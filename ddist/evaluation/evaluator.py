"""Accuracy of a distilled set under a protocol, with its spread over networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import sqrt
from typing import Any

import torch
from scipy.stats import t as student_t
from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.data.split import Split
from ddist.errors import DdistError
from ddist.evaluation.attacks import Attacks
from ddist.evaluation.protocol import Context, Course, Protocol
from ddist.init import InitialWeights
from ddist.inner.compiled import Compile
from ddist.inner.stacking import Precision
from ddist.networks import Weights
from ddist.objectives import Objective

MAX_CLASSES = 1000  # whose confusion is counted: 8 MB of memory


@dataclass(frozen=True)
class Row:
    """One line of results; accuracies are fractions. With a single network there is no spread:
    ``accuracy_std`` and ``accuracy_ci95`` are None."""

    protocol: str
    network: str
    accuracy_mean: float
    accuracy_std: float | None
    accuracy_ci95: float | None  # half the width of the interval for the mean (Student's t)
    num_networks: int
    chosen: dict[str, float] = field(default_factory=dict)
    course: Course = field(default_factory=dict)  # under an objective of its own
    confusion: Tensor | None = field(default=None, compare=False, repr=False)
    """Predictions of all networks together, int64 [C, C]: true class, predicted class. None where
    the protocol did not count them, or beyond ``MAX_CLASSES`` classes."""
    robust: dict[str, float] = field(default_factory=dict)  # mean accuracies under attacks

    def to_dict(self) -> dict[str, Any]:
        """Return the row as in results.json: without ``confusion``, and without what is empty of
        ``course`` and ``robust``."""
        fields = asdict(replace(self, confusion=None))
        empty = [name for name in ("course", "robust") if not fields[name]]
        return {k: v for k, v in fields.items() if k not in ("confusion", *empty)}

    def score(self) -> float:
        """Return what is to be large: the accuracy; under an objective, on the labels it wants."""
        return self.course["accuracy_as_wanted_mean"][-1] if self.course else self.accuracy_mean


class Evaluator:
    """Runs one protocol for each of ``networks`` (name to module), in that order; the rows are
    called as in ``tested``. ``test_images`` are the most that a network is tested on, evenly spaced
    in the test split; None for all.

    Raises:
        DdistError: the protocol cannot have its precision, or one of the networks.
    """

    def __init__(
        self,
        protocol: Protocol,
        networks: Mapping[str, nn.Module],
        init: InitialWeights,
        seed: int,
        *,
        compile: Compile = False,
        precision: Precision = "32-true",
        objective: Objective | None = None,
        test_images: int | None = None,
        attacks: Attacks | None = None,
    ) -> None:
        if attacks is not None and not protocol.shows_networks:
            raise DdistError(
                f"evaluation={protocol.name} trains no networks that could be attacked: leave "
                "evaluation.robust out, or choose another protocol, such as evaluation=dc2021."
            )
        protocol.check_precision(precision)
        for network in networks.values():
            protocol.check_network(network, init)
        self.protocol = protocol
        self.networks = self.tested = networks
        if not protocol.uses_network:
            self.tested = {protocol.in_place_of_network: next(iter(networks.values()))}
        self.init = init
        self.seed = seed
        self.compile: Compile = compile
        self.precision: Precision = precision
        self.objective = objective
        self.test_images = test_images
        self.attacks = attacks

    def run(
        self, distilled: DistilledDataset, data: RealData, split: Split | None = None
    ) -> list[Row]:
        """Return one row per network, on the test split or on ``split``."""
        return [self.row(name, distilled, data, split) for name in self.tested]

    def row(
        self,
        name: str,
        distilled: DistilledDataset,
        data: RealData,
        split: Split | None = None,
        watch: Callable[[Weights], None] | None = None,
    ) -> Row:
        """Return the row of one of ``tested``. ``watch`` is called with the trained networks, as in
        :class:`Context`."""
        context = self._context(data, self.tested[name], split)
        counts = no_counts(data.num_classes)
        attacked = Attacked(self.attacks, context) if self.attacks is not None else None
        watchers = [watcher for watcher in (attacked, watch) if watcher is not None]
        measured, chosen = self.protocol.accuracies(
            distilled, replace(context, confusion=counts, watch=partial(call_all, watchers))
        )
        course = self.protocol.course(distilled, context, chosen)
        counted = counts is not None and bool(counts.any())
        row = summarise(measured, self.protocol.name, name, chosen)
        robust = {} if attacked is None else attacked.means()
        return replace(row, course=course, robust=robust, confusion=counts if counted else None)

    def prepare(self, data: RealData) -> None:
        """Compute what all rows share (see :meth:`Protocol.prepare`)."""
        for network in self.tested.values():
            self.protocol.prepare(self._context(data, network))

    def before(self, data: RealData) -> list[Row]:
        """Return the rows of untrained networks, as ``init`` draws them; none if the protocol does
        not start from those."""
        rows = []
        for name, network in self.networks.items():
            accuracies = self.protocol.before(self._context(data, network))
            if accuracies is not None:
                rows.append(summarise(accuracies, self.protocol.name, name, {}))
        return rows

    def choices(self, data: RealData, counts: Sequence[int]) -> dict[str, Tensor]:
        """Return the protocol's choices of real images under the first network (see
        :meth:`Protocol.choices`)."""
        first = next(iter(self.networks.values()))
        return self.protocol.choices(self._context(data, first), counts)

    def row_on_all_images(self, name: str, data: RealData) -> Row:
        """Return the row of all training images under one of ``tested``."""
        context = self._context(data, self.tested[name])
        measured, chosen = self.protocol.on_all_images(context)
        return summarise(measured, self.protocol.name, name, chosen)

    def _context(self, data: RealData, network: nn.Module, split: Split | None = None) -> Context:
        if split is None:
            most = self.test_images
            split = data.test if most is None else data.test.at_most(most)
        return Context(
            data,
            split,
            network.to(data.device),
            self.init,
            self.seed,
            compile=self.compile,
            precision=self.precision,
            objective=self.objective,
        )


class Attacked:
    """Watches trained networks (see :class:`Context`) and keeps their accuracies under
    ``attacks``."""

    def __init__(self, attacks: Attacks, context: Context) -> None:
        self._attacks, self._context = attacks, context
        self._measured: list[Mapping[str, Tensor]] = []

    def __call__(self, weights: Weights) -> None:
        c = self._context
        self._measured.append(self._attacks.accuracies(c.network, weights, c.data, c.split, c.seed))

    def means(self) -> dict[str, float]:
        """Return the mean accuracy over all networks, by the name of the attack."""
        names = self._measured[0]
        return {n: float(torch.cat([chunk[n] for chunk in self._measured]).mean()) for n in names}


def call_all(watchers: Sequence[Callable[[Weights], None]], weights: Weights) -> None:
    """Call each of ``watchers`` with ``weights``."""
    for watcher in watchers:
        watcher(weights)


def no_counts(num_classes: int) -> Tensor | None:
    """Return a confusion matrix of zeros to count in; None beyond ``MAX_CLASSES`` classes."""
    if num_classes > MAX_CLASSES:
        return None
    return torch.zeros(num_classes, num_classes, dtype=torch.int64)


def summarise(accuracies: Tensor, protocol: str, network: str, chosen: dict[str, float]) -> Row:
    """Return the row for the accuracies of K networks [K]."""
    values = accuracies.double()
    count = len(values)
    std = float(values.std()) if count > 1 else None
    ci95 = None if std is None else float(student_t.ppf(0.975, count - 1)) * std / sqrt(count)
    return Row(protocol, network, float(values.mean()), std, ci95, count, chosen)
