"""IDM: improved distribution matching (Zhao et al. 2023, arXiv 2307.09742)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ddist.matching.distribution import mean_distance
from ddist.methods.students import AlongStudents, Students
from ddist.networks import Weights, classify, embed
from ddist.seeding import generator
from ddist.settings.auto import SMALLEST_CUT
from ddist.settings.ranges import Momentum, NonNegative, NonNegativeInt, PositiveInt


class IDM(AlongStudents):
    """DM in networks that are trained on real images as distilling goes on, which also have to
    classify the synthetic ones; several of these lie in each stored image (``multiformation``).

        min over S of  E_{theta in Q} sum_c  | mean f(A(x_real^c)) - mean f(A(x_syn^c)) |^2
                                             + lambda mean CE(net(A(x_syn^c)), c)

    with f the features and net the logits under theta.

    Q are ``num_pool`` networks. Each outer step takes one of them at random and trains it a little
    more, or draws it anew once it has served ``max_updates`` times.

    Args:
        num_pool: networks in Q.
        max_updates: outer steps after which a network is drawn anew.
        class_weight: lambda.
        student_images: random real images that a network is trained on before it serves again.
        student_epochs: epochs on these.
        student_momentum: of its SGD, which starts anew each time.
    """

    needs_features = True
    tiles = SMALLEST_CUT

    def __init__(
        self,
        *,
        num_pool: PositiveInt,
        max_updates: PositiveInt,
        class_weight: NonNegative,
        student_images: PositiveInt,
        student_epochs: NonNegativeInt,
        student_momentum: Momentum,
        **common: Any,
    ) -> None:
        super().__init__(num_networks=1, **common)
        self.num_pool, self.max_updates = num_pool, max_updates
        self.class_weight, self.student_images = class_weight, student_images
        self.student_epochs, self.student_momentum = student_epochs, student_momentum

    def match(self, weights: Weights, x_real: Tensor, x_syn: Tensor, classes: Tensor) -> Tensor:
        features = embed(self.network, weights, x_syn.flatten(0, 1))
        synthetic = features.unflatten(0, x_syn.shape[:2])
        distance = mean_distance(self.real_features(weights, x_real), synthetic)
        if not self.class_weight:
            return distance
        labels = classes.to(features.device).repeat_interleave(x_syn.shape[1])
        logits = classify(self.network, weights, features)
        surprise = cross_entropy(logits, labels, reduction="sum") / x_syn.shape[1]
        return distance + self.class_weight * surprise

    # -- the networks ----------------------------------------------------------------------------

    def networks_of_step(self) -> Weights:
        pool, k = super().networks_of_step(), self.serving()
        return {name: w[k : k + 1] for name, w in pool.items()}

    def serving(self) -> int:
        """Draw the place of the network that serves this outer step."""
        (stream,) = self.streams("serving", 1)
        return int(torch.randint(self.num_pool, (), generator=stream))

    def next_students(self, before: Students | None) -> Students:
        """Return all networks, with how often each has served, float [num_pool]: the one of this
        step trained, or fresh."""
        if before is None:
            pool, ages = self.draw_networks(self.num_pool), torch.zeros(self.num_pool)
        else:
            pool = {name: w.clone() for name, w in before.weights.items()}
            ages = before.figures.clone()
        k = self.serving()
        if ages[k] >= self.max_updates:
            own, ages[k] = self.draw_networks(1), 0
        elif ages[k] > 0:
            own = self.train_on_real({name: w[k : k + 1] for name, w in pool.items()})
        else:
            own = {name: w[k : k + 1] for name, w in pool.items()}
        for name, w in pool.items():
            w[k : k + 1] = own[name]
        ages[k] += 1
        return Students(self.global_step, pool, ages)

    def train_on_real(self, weights: Weights) -> Weights:
        """Train a network [1, ...] for ``student_epochs`` epochs on random real images."""
        if not self.student_epochs:
            return weights
        keys = ("student images", self.global_rank, self.global_step)
        x, y = self.data.batch(self.student_images, generator(self.seed, *keys))
        return self.fit_students(
            weights,
            x,
            y,
            self.student_epochs,
            self.streams("student", 1),
            momentum=self.student_momentum,
        )
