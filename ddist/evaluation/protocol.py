"""What a protocol is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ddist.artifact import DistilledDataset
from ddist.data import RealData
from ddist.data.split import Split
from ddist.init import InitialWeights
from ddist.inner.compiled import Compile
from ddist.inner.stacking import Precision, check_precision


class Protocol(ABC):
    """Says what training on a distilled set means. Accuracies under two protocols are never
    compared, so each carries its name into every row."""

    name: str
    uses_network: bool = True
    """False where nothing is trained (nearest neighbours, kernel regression)."""
    in_place_of_network: str = "none"
    """What results name where they name networks else."""
    compile: Compile = False
    """Whether networks are compiled; set by whoever builds the protocol."""
    precision: Precision = "32-true"
    """Of the networks; set likewise."""
    confusion: Tensor | None = None
    """Where predictions on the split are counted, as :func:`ddist.inner.predict.count` does; set by
    who wants to know them."""

    def check_precision(self) -> None:
        """Raise a DdistError for a precision that the protocol cannot have."""
        check_precision(self.precision)

    @abstractmethod
    def accuracies(
        self,
        distilled: DistilledDataset,
        data: RealData,
        split: Split,
        network: nn.Module,
        init: InitialWeights,
        seed: int,
    ) -> tuple[Tensor, dict[str, float]]:
        """Accuracy of each trained network on ``split`` [K], as fractions, and what the protocol
        chose by itself (on training or validation data, never on the test set)."""
