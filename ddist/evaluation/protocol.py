"""What a protocol is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.data.split import Split
from ddist.init import InitialWeights
from ddist.inner.compiled import Compile
from ddist.inner.stacking import Precision
from ddist.networks import Weights
from ddist.objectives import Objective

AT_ONCE = 1000  # images that networks are asked about

Course = dict[str, list[float]]
"""How the measures of an objective go with the steps: ``steps`` says after how many, then
``<name>_mean`` and ``<name>_std`` over the networks."""


@dataclass(frozen=True)
class Context:
    """What a distilled set is evaluated on and with.

    Args:
        split: of ``data``, whose images networks are asked about.
        network: that is trained, on the device of the data.
        init: p(theta_0), for protocols that start from it.
        seed: the run's root seed.
        compile: whether networks are compiled.
        precision: of the networks.
        objective: what the networks are trained for, where that is not to be right.
        confusion: where predictions on ``split`` are counted, as
            :func:`ddist.inner.predict.count` does.
        watch: called with the trained networks, stacked [K, ...], as many as are ready at a time;
            by protocols that :attr:`Protocol.shows_networks`.
    """

    data: RealData
    split: Split
    network: nn.Module
    init: InitialWeights
    seed: int
    compile: Compile = False
    precision: Precision = "32-true"
    objective: Objective | None = None
    confusion: Tensor | None = None
    watch: Callable[[Weights], None] | None = None


class Protocol(ABC):
    """Says what training on a distilled set means. Accuracies under two protocols are never
    compared, so each carries its name into every row."""

    name: str
    uses_network: bool = True
    """False where nothing is trained (nearest neighbours, kernel regression)."""
    num_held_out: int | None = None
    """How many held-out networks it asks of p(theta_0); None where it draws its own."""
    in_place_of_network: str = "none"
    """What results name instead of a network."""
    num_beside: int = 0
    """How many sets of chosen real images it has beside a set (see :meth:`choices`)."""

    takes_all_images: bool = False
    """True where training on all images is so quick that results show it beside every set."""
    shows_networks: bool = False
    """True where whoever watches (see :class:`Context`) is shown the trained networks."""

    def check_precision(self, precision: Precision) -> None:  # noqa: B027 (may stay as it is)
        """Raise a DdistError for a precision that the protocol cannot have."""

    def check_network(  # noqa: B027 (may stay as it is)
        self, network: nn.Module, init: InitialWeights
    ) -> None:
        """Raise a DdistError for a network, from ``init``, that the protocol cannot train."""

    def prepare(self, context: Context) -> None:  # noqa: B027 (most have nothing to do)
        """Compute what is kept in the cache and serves the rows of all sets."""

    def before(self, context: Context) -> Tensor | None:
        """Return the accuracies [K] of the networks that the protocol trains, before training; None
        if it does not use p(theta_0)."""
        return None

    def choices(self, context: Context, counts: Sequence[int]) -> dict[str, Tensor]:
        """Choose ``counts`` training images of each class, in its order, in the ways that the
        protocol has for it: their rows int64 [N] by names in results."""
        return {}

    def on_all_images(self, context: Context) -> tuple[Tensor, dict[str, float]]:
        """Return what :meth:`accuracies` does, for all training images in the place of a set; where
        the protocol says what that means."""
        raise NotImplementedError

    def course(
        self, distilled: DistilledDataset, context: Context, chosen: Mapping[str, float]
    ) -> Course:
        """Return the measures of the objective, step by step; ``chosen`` is as :meth:`accuracies`
        returns it. Empty if there is no objective, or no step to follow."""
        return {}

    @abstractmethod
    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        """Return each trained network's accuracy on the context's split [K], as fractions, and what
        the protocol chose by itself (on training or validation data, never on the test set)."""


def batches_of(data: RealData, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images of ``split`` and their classes, at most ``AT_ONCE`` at a time."""
    return data.batches(split, AT_ONCE)
