"""Baselines: real images, or simple statistics of them, chosen without an outer loop."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.evaluation.protocol import Context, batches_of
from ddist.evaluation.replay import Replay, as_wanted, replay, tuning_split
from ddist.inner.predict import accuracy
from ddist.methods.base import Method
from ddist.methods.dd import OuterLoss
from ddist.objectives import Objective, classification
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt
from ddist.stages.progress import SHORT, Progress
from ddist.synthetic import SyntheticData
from ddist.synthetic.start import start_images


class Selection(Method):
    """Images as a start gives them: random real images, class means, k-means centroids.

    Args:
        start: "real", "average", "kmeans" or "noise" (see :mod:`ddist.synthetic.start`).
        student_steps: spreads the images over steps as DD spreads its own.
        objective: gives the images, which stay those of their classes, the labels that it wants.
    """

    learns = False

    def __init__(
        self,
        *,
        student_steps: PositiveInt,
        start: str,
        synthetic: partial[SyntheticData],
        objective: OuterLoss = classification,
        **common: Any,
    ) -> None:
        super().__init__(
            num_steps=student_steps,
            synthetic=partial(synthetic, start=start),
            **common,
        )
        self.objective = objective if isinstance(objective, Objective) else None
        if self.objective is not None:
            self.synthetic.relabel(self.objective.targets)


class OptimizedRandom(Selection):
    """The best of many random real sets (Wang et al. 2018, §4, "optimized real").

    Judged by the accuracy on training images (validation images, where some are held out) of
    training networks after replaying the set, with the step size and epochs that the grid of
    ``judge`` finds for the first set.

    Args:
        num_candidates: random sets that are tried.
        judge: the protocol that judges them.
    """

    def __init__(self, *, num_candidates: PositiveInt, judge: Replay, **common: Any) -> None:
        super().__init__(start="real", **common)
        refuse_tiles(self.synthetic)
        judge.check_network(self.network, self.init)
        self.num_candidates, self.judge = num_candidates, judge
        with torch.no_grad():
            self.synthetic.begin(images=self._best(self.synthetic.stored()[1]))

    def _best(self, labels: Tensor) -> Tensor:
        data, judge = self.data, self.judge
        assert self.step_index is not None
        sizes = torch.bincount(self.step_index).tolist()
        num_judges = self.init.different(judge.tuning_networks)
        judges = self.init.draw(self.network, num_judges, "judge")
        images = tuning_split(data, judge.tuning_images, self.seed)
        context = Context(
            data, images, self.network, self.init, self.seed, objective=self.objective
        )
        scored: list[tuple[float, Tensor]] = []
        step_sizes = None
        with Progress("trying random sets", "sets", self.num_candidates, quiet=SHORT) as progress:
            for candidate in range(self.num_candidates):
                stream = generator(self.seed, "candidate", candidate)
                x = start_images("real", data, self.synthetic.classes, stream)
                steps = list(zip(x.split(sizes), labels.split(sizes), strict=True))
                if step_sizes is None:
                    size, epochs = judge.tune(steps, context)
                    step_sizes = torch.full((epochs, len(steps)), size, device=data.device)
                trained = replay(self.network, judges, steps, step_sizes)
                batches = as_wanted(batches_of(data, images), self.objective)
                score = accuracy(self.network, trained, batches).mean()
                scored.append((float(score), x))
                progress.to(candidate + 1)
        return max(scored, key=lambda pair: pair[0])[1]


def refuse_tiles(synthetic: SyntheticData) -> None:
    """Raise a DdistError where the bytes of an image hold several training images."""
    if (f := synthetic.factor) > 1:
        raise DdistError(
            f"This method chooses whole images, not {f}x{f} in each: set synthetic=pixel."
        )
    if (each := synthetic.stored_each) > 1:
        raise DdistError(
            f"This method chooses whole images, not {each} in the bytes of one: set "
            "synthetic=pixel."
        )
