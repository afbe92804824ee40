"""Real data: uint8 tensors on the device, class-balanced batches, invertible normalisation."""

from typing import TYPE_CHECKING, Any

from ddist.artifact.normalization import Normalization
from ddist.data.split import Split

if TYPE_CHECKING:
    from ddist.data.real import RealData

__all__ = ["Normalization", "RealData", "Split"]


def __getattr__(name: str) -> Any:
    # Imports Lightning, which those who only look at a distilled set need not wait for.
    if name == "RealData":
        from ddist.data.real import RealData

        return RealData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
