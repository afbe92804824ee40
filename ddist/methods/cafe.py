"""CAFE: aligning features (Wang et al. 2022, arXiv 2203.01531)."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from ddist.data.split import permute_classes
from ddist.errors import DdistError
from ddist.inner.predict import accuracy
from ddist.matching.feature import discrimination, layer_distance
from ddist.methods.students import AlongStudents, Students
from ddist.networks import Network, Weights, embed
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative, NonNegativeInt, PositiveInt

_AT_ONCE = 1000  # images of the query: the pixels held as floats


class CAFE(AlongStudents):
    """Images whose mean features are those of real images in every layer of a student, and whose
    last ones tell the classes of real images apart.

        min over S of  sum_l lambda_l sum_c | mean f_l(A(x_real^c)) - mean f_l(A(x_syn^c)) |^2
                       + beta sum_i CE(F_real,i F_syn^T, y_i)

    with F_syn [K, F] the mean last features of each class and F_real,i those of a real image. Only
    the synthetic side has a graph. (The authors' code adds the student's cross-entropy on real
    images, which has no gradient in S; it is left out.)

    The layers are the outputs of the blocks of ``network.body`` (see :func:`layer_outputs`) and the
    flattened last features. The authors take ConvNet-3 before and behind its poolings, which makes
    one more map; the weights are those of its four depths.

    Students are watched by their accuracy on a fixed query of real images, the same number of each
    class, from the validation split if there is one and else from training images. Between two
    outer steps a student is trained on S until the last ``window`` accuracies, one per epoch, span
    more than ``movement``. A fresh one is drawn when the accuracies at its last ``window`` outer
    steps span less than ``saturation``: the paper's dynamic schedule. The authors' code can wait
    for either for ever; here there are caps.

    Args:
        layer_weights: the lambda_l from the first layer to the last, stretched to the number of
            layers (see :func:`ddist.matching.feature.stretch`).
        discrimination: beta.
        window: accuracies that are looked back on.
        saturation, movement: the paper's lambda_1 and lambda_2, shares of the query.
        max_updates: most outer steps along one student.
        max_student_epochs: most epochs between two of them.
        query_per_class: images of each class in the query, or all there are.
    """

    needs_features = True

    def __init__(
        self,
        *,
        layer_weights: Annotated[Sequence[float], MinLen(1)],
        discrimination: NonNegative,
        window: PositiveInt,
        saturation: NonNegative,
        movement: NonNegative,
        max_updates: PositiveInt,
        max_student_epochs: NonNegativeInt,
        query_per_class: PositiveInt,
        **common: Any,
    ) -> None:
        super().__init__(num_networks=1, **common)
        if len(set(self.images_per_class)) > 1:
            raise DdistError(
                "CAFE compares the images of all classes together and needs equally many of each: "
                "set synthetic.scarce=repeat, or choose a smaller ipc."
            )
        self.layer_weights, self.discrimination = tuple(layer_weights), discrimination
        self.window, self.saturation, self.movement = window, saturation, movement
        self.max_updates, self.max_student_epochs = max_updates, max_student_epochs
        self.query_per_class = query_per_class
        self._query: Tensor | None = None

    def parts(self, x_syn: Tensor, num_real: int) -> Sequence[Tensor]:
        """Return all classes as one part: their centres are each other's rivals."""
        return [torch.arange(len(x_syn))]

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        with torch.no_grad():
            *real, features = self.summaries(weights, x_real, 1)
        *synthetic, _ = self.summaries(weights, x_syn, self.at_once(x_syn, x_real.shape[1]))
        told_apart = discrimination(features, centres=synthetic[-1])
        aligned = layer_distance(real, synthetic, self.layer_weights)
        return aligned + self.discrimination * told_apart

    def summaries(self, weights: Weights, x: Tensor, at_once: int) -> list[Tensor]:
        """Compute the class means [K, *map] of each layer for images [K, M, C, H, W], the flattened
        features' last, and then those features [K, M, F]. Takes ``at_once`` classes at a time,
        whose graph is held for one part only and computed anew for its gradient."""

        def summary(x: Tensor) -> tuple[Tensor, ...]:
            layers = layer_outputs(self.network, weights, x.flatten(0, 1))
            by_class = [layer.unflatten(0, x.shape[:2]) for layer in layers]
            return *(layer.mean(1) for layer in by_class), by_class[-1]

        chunks = x.split(at_once)
        if len(chunks) == 1 or not torch.is_grad_enabled():
            rows = [summary(images) for images in chunks]
        else:
            rows = [
                checkpoint(summary, images, use_reentrant=False, preserve_rng_state=False)
                for images in chunks
            ]
        return [torch.cat(means) for means in zip(*rows, strict=True)]

    # -- the student between outer steps ---------------------------------------------------------

    def next_students(self, before: Students | None) -> Students:
        """Return the same student, trained, or a fresh one. Its figures are its accuracies on the
        query at each of its outer steps so far, float64 [max_updates], padded with NaN."""
        seen: list[float] = []
        if before is not None:
            seen = before.figures[~before.figures.isnan()].tolist()
        if before is None or len(seen) >= self.max_updates or self.is_saturated(seen):
            weights = self.draw_networks(1)
            seen = [self.query_accuracy(weights)]
        else:
            weights, now = self.train_student(before.weights, seen[-1])
            seen.append(now)
        figures = torch.full((self.max_updates,), torch.nan, dtype=torch.float64)
        figures[: len(seen)] = torch.tensor(seen, dtype=torch.float64)
        return Students(self.global_step, weights, figures)

    def train_student(self, weights: Weights, accuracy: float) -> tuple[Weights, float]:
        """Train the student on the synthetic images, epoch by epoch, until it has moved; return it
        and its accuracy. ``accuracy`` is that of ``weights``."""
        seen: list[float] = []
        streams = self.streams("student", 1)
        while len(seen) < self.max_student_epochs and not self.has_moved(seen):
            weights = self.fit_synthetic(weights, 1, streams)
            seen.append(self.query_accuracy(weights))
        return weights, seen[-1] if seen else accuracy

    def is_saturated(self, accuracies: list[float]) -> bool:
        """Tell whether a student's accuracy changed little over its last ``window`` outer steps."""
        last = accuracies[-self.window :]
        return len(last) == self.window and max(last) - min(last) < self.saturation

    def has_moved(self, accuracies: list[float]) -> bool:
        """Tell whether a student's accuracy changed much over its last ``window`` epochs."""
        last = accuracies[-self.window :]
        return len(last) == self.window and max(last) - min(last) > self.movement

    def query_accuracy(self, weights: Weights) -> float:
        """Return the share of the query that the student [1, ...] classifies correctly."""
        return accuracy(self.network, weights, self.query()).item()

    def query(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the query in parts: normalised images [N, C, H, W] and their classes [N]."""
        data = self.data
        split = data.train if data.validation is None else data.validation
        if self._query is None:
            rows = permute_classes(split, generator(self.seed, "query"))
            self._query = torch.cat([row[: self.query_per_class] for row in rows])
        for batch_rows in self._query.to(data.device).split(_AT_ONCE):
            yield data.normalization(split.x[batch_rows]), split.y[batch_rows]


def layer_outputs(network: nn.Module, weights: Weights, x: Tensor) -> list[Tensor]:
    """Return the outputs of the blocks of ``network.body`` for images [N, C, H, W] under
    ``weights`` (not stacked), and last the flattened features [N, F].

    A block begins with each part of the body that has a weight matrix or filters; what follows it
    without any (normalisation, activation, pooling) belongs to it. A body that is no Sequential is
    one block, and so is whatever comes before the last linear layer of a module that is no
    :class:`ddist.networks.Network`.
    """
    if not isinstance(network, Network):
        features = embed(network, weights, x)
        return [features, features]
    body = network.body
    children = body.named_children() if isinstance(body, nn.Sequential) else [("", body)]
    outputs: list[Tensor] = []
    for name, child in children:
        prefix = f"body.{name}." if name else "body."
        own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        x = functional_call(child, own, (x,))
        if any(parameter.ndim > 1 for parameter in child.parameters()):
            outputs.append(x)
        elif outputs:
            outputs[-1] = x
    return [*outputs, x.flatten(1)]
