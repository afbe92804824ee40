"""The interface through which methods see what they learn."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from ddist.artifact.codes import Codes
from ddist.synthetic.earlier import Earlier, say_taken
from ddist.synthetic.steps import StepSizes


class SyntheticData(nn.Module, ABC):
    """The only owner of Parameters. Methods see images and labels, never how they are stored.

    Images are ordered by student step, and by class within a step. ``step_sizes`` is a module that
    gives the student's step sizes [E, S], or None where the method learns none; they start at those
    of the ``earlier`` set, if it has as many. ``classes`` is the class of each image that
    :meth:`forward` gives, int64 [M]; ``factor`` ** 2 of them lie in each stored image.
    """

    classes: Tensor
    factor: int = 1
    stored_each: int = 1
    """Stored images for each image of pixels that ``ipc`` asks for."""
    earlier: Earlier | None = None
    """The distilled set that it starts from, if any."""
    label_kind: str = "hard"
    """ "hard" (classes), "soft" or "given" (probabilities), "free" or "solved" (any numbers, near 1
    for the own class, near 0 for others)."""

    def __init__(self, step_sizes: StepSizes | None) -> None:
        super().__init__()
        self.step_sizes = step_sizes
        self.took_step_sizes = False  # those of the earlier set

    def _take_step_sizes(self, earlier: Earlier) -> None:
        """Start at the step sizes of the earlier set, and log what was taken of it."""
        if self.step_sizes is not None and earlier.step_sizes is not None:
            self.took_step_sizes = self.step_sizes.begin(earlier.step_sizes)
        say_taken(earlier, self.takes_labels(), self.took_step_sizes)

    def takes_labels(self) -> bool:
        """Tell whether its labels start as those of an earlier set."""
        learned = self.label_kind in ("soft", "free")
        return learned and self.earlier is not None and self.earlier.labels is not None

    @property
    def examples_each(self) -> int:
        """Return the training images for each image of pixels that ``ipc`` asks for."""
        return self.stored_each * self.factor**2

    def file(self) -> Codes | None:
        """Return what is stored in the place of the images, where that is something else."""
        return None

    @abstractmethod
    def forward(self) -> tuple[Tensor, Tensor]:
        """Return what students train on: images [M, C, H, W] in training space; labels int64 [M],
        or float [M, K] (see ``label_kind``)."""

    @abstractmethod
    def stored(self) -> tuple[Tensor, Tensor]:
        """Return what is stored: images [N, C, H, W] and labels, with M = N ``factor`` ** 2."""

    @abstractmethod
    def show(self, images: Tensor) -> None:
        """Have what is learned give these training images [M, C, H, W], or those next to them."""

    @abstractmethod
    def begin(
        self,
        images: Tensor | None = None,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        """Set where learning starts, for methods that know better than ``synthetic.start``, unless
        that is an earlier set: training images [M, C, H, W]; logits [M, K] of soft labels, or free
        labels [M, K]. What is None stays as it was."""

    @abstractmethod
    def relabel(self, wanted: Callable[[Tensor], Tensor]) -> None:
        """Start the label of each image at ``wanted(class)`` in the place of its class."""

    @abstractmethod
    def project(self) -> None:
        """Bring what an outer step has moved back into its allowed range."""

    def __call__(self) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = super().__call__()
        return result
