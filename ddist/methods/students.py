"""The base of methods whose students live on from one outer step to the next."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from ddist.augment.mix import Mix
from ddist.errors import DdistError
from ddist.inner.compiled import SAVED_PER_TRAINED_VALUE
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.methods.base import Method
from ddist.methods.matching import Matching
from ddist.networks import Weights
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative, PositiveInt


@dataclass(frozen=True)
class Students:
    """The students of an outer step: their weights [K, ...], and whatever figures the method keeps
    of them, a tensor on the CPU whose shape never changes."""

    step: int
    weights: Weights
    figures: Tensor = field(default_factory=lambda: torch.zeros(1))


class AlongStudents(Matching):
    """Students are drawn or trained on at the start of an outer step, and not at the end of the one
    before: checkpoints are written in between, and the next step needs the images as they are.

    Args:
        student_lr, student_batch_size: of the students' SGD.
    """

    def __init__(
        self, *, student_lr: NonNegative, student_batch_size: PositiveInt, **common: Any
    ) -> None:
        super().__init__(**common)
        self.student_lr, self.student_batch_size = student_lr, student_batch_size
        self._students_at: Students | None = None

    @abstractmethod
    def next_students(self, before: Students | None) -> Students:
        """Return this outer step's students, from those of the step ``before`` (None at step 0)."""

    def networks_of_step(self) -> Weights:
        students, step = self._students_at, self.global_step
        if students is None or students.step != step:
            if students is None and step > 0:
                raise DdistError("The checkpoint lacks the student's weights: set resume=false.")
            if students is not None:
                weights = {name: w.to(self.device) for name, w in students.weights.items()}
                students = Students(students.step, weights, students.figures)
            self._students_at = students = self.next_students(students)
        return students.weights

    def fit_synthetic(
        self, weights: Weights, epochs: int, generators: list[torch.Generator]
    ) -> Weights:
        """Train ``weights`` [K, ...] for ``epochs`` epochs on the synthetic images as they are."""
        if not epochs:
            return weights
        with torch.no_grad():
            images, labels = self.synthetic()
        return self.fit_students(weights, images, labels, epochs, generators)

    def fit_students(
        self,
        weights: Weights,
        x: Tensor,
        y: Tensor,
        epochs: int,
        generators: list[torch.Generator],
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        mix: Mix | None = None,
    ) -> Weights:
        """Train ``weights`` [K, ...] by SGD on the images ``x`` with labels ``y``, in
        ``student_precision`` and compiled where that pays."""
        num_images = self.num_networks * epochs * len(x)
        recipe = TrainingRecipe(
            epochs=epochs,
            batch_size=self.student_batch_size,
            optimizer="sgd",
            lr=self.student_lr,
            momentum=momentum,
            weight_decay=weight_decay,
            precision=self.student_precision,
            compiled=self.worth_compiling(num_images, SAVED_PER_TRAINED_VALUE),
        )
        return fit(
            self.network,
            weights,
            x,
            y,
            recipe,
            generators=generators,
            augment=self.augment if self.augment.strategy else None,
            mix=mix,
        )

    def streams(self, name: str, num: int) -> list[torch.Generator]:
        """Return ``num`` generators of this rank at this outer step."""
        keys = (name, self.global_rank, self.global_step)
        return [generator(self.seed, *keys, k) for k in range(num)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add every rank's students to the checkpoint: [ranks, K, ...]."""
        super().on_save_checkpoint(checkpoint)

        students = self._students_at
        if students is not None:
            weights = of_all_ranks(self, students.weights)
            figures = of_all_ranks(self, {"figures": students.figures})["figures"]
            checkpoint["students"] = {"step": students.step, "weights": weights, "figures": figures}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("students")
        if saved is not None:
            weights = of_this_rank(self, saved["weights"])
            figures = of_this_rank(self, {"figures": saved["figures"]})["figures"].cpu()
            self._students_at = Students(saved["step"], weights, figures)


def of_all_ranks(method: Method, tensors: Weights) -> Weights:
    """Gather every rank's tensors, [ranks, ...], for a checkpoint; all ranks have to call this."""
    if method.trainer.world_size == 1:
        return {name: tensor[None] for name, tensor in tensors.items()}
    return {name: cast(Tensor, method.all_gather(tensor)) for name, tensor in tensors.items()}


def of_this_rank(method: Method, tensors: Weights) -> Weights:
    """Return this rank's part of what :func:`of_all_ranks` has gathered."""
    rank = method.trainer.global_rank
    if rank >= min(len(tensor) for tensor in tensors.values()):
        raise DdistError(
            "The checkpoint is of a run with fewer devices: resume with as many, or set "
            "resume=false."
        )
    return {name: tensor[rank] for name, tensor in tensors.items()}
