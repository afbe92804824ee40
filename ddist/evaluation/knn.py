"""Nearest neighbours in training space: how much of the accuracy needs no network at all."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import MinLen
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import one_hot

from ddist.artifact.dataset import DistilledDataset
from ddist.data.split import Split
from ddist.evaluation.protocol import Context, Protocol, batches_of
from ddist.evaluation.replay import tuning_split
from ddist.inner.predict import count
from ddist.settings.ranges import PositiveInt


class NearestNeighbours(Protocol):
    """scikit-learn's k-NN (Euclidean) on the images; k is chosen from ``k_grid`` on training
    images. Soft labels count as their likeliest class. The class is the one with most votes, the
    first of several,

        argmax_c  sum over the k nearest i of  w_i [y_i = c],

    where w_i are the set's weights of samples, or 1."""

    uses_network = False

    def __init__(
        self,
        *,
        name: str,
        k_grid: Annotated[Sequence[PositiveInt], MinLen(1)],
        tuning_images: PositiveInt,
    ) -> None:
        self.name = name
        self.k_grid = list(k_grid)
        self.tuning_images = tuning_images

    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        images, y, weights = (
            None if tensor is None else tensor.cpu() for tensor in distilled.examples()
        )
        assert images is not None and y is not None
        x, y = images.flatten(1).numpy(), y if y.ndim == 1 else y.argmax(1)
        weights = torch.ones(len(y)) if weights is None else weights
        ballots = one_hot(y, context.data.num_classes) * weights.double().unsqueeze(1)  # [N, C]

        def score(k: int, images: Split, confusion: Tensor | None = None) -> float:
            model = NearestNeighbors(n_neighbors=k).fit(x)
            right = 0
            for batch, classes in batches_of(context.data, images):
                near = model.kneighbors(batch.flatten(1).cpu().numpy(), return_distance=False)
                predicted = ballots[torch.from_numpy(near)].sum(1).argmax(1)
                right += int((predicted == classes.cpu()).sum())
                count(confusion, predicted.unsqueeze(0), classes.cpu())
            return right / len(images)

        tuning = tuning_split(context.data, self.tuning_images, context.seed)
        k = max((k for k in self.k_grid if k <= len(x)), key=lambda k: score(k, tuning))
        right = score(k, context.split, context.confusion)
        return torch.tensor([right], dtype=torch.float64), {"k": k}
