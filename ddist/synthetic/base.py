"""The interface through which methods see what they learn."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ddist.synthetic.steps import StepSizes


class SyntheticData(nn.Module, ABC):
    """The only owner of Parameters. Methods see images and labels, never how they are stored.

    Images are ordered by student step, and by class within a step. ``step_sizes`` is a module that
    gives the student's step sizes [E, S], or None where the method learns none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step_sizes: StepSizes | None = None

    @abstractmethod
    def forward(self) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in training space; labels int64 [N], or probabilities [N, K]."""

    def __call__(self) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = super().__call__()
        return result
