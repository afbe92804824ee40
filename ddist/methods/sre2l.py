"""SRe2L: squeeze, recover, relabel (Yin, Xing & Shen 2023, arXiv 2306.13092)."""

from math import cos, pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.augment.crop import RandomResizedCrop
from ddist.errors import DdistError
from ddist.inner.minibatches import Augment
from ddist.matching.statistics import statistics_loss
from ddist.methods.base import Batch, Method
from ddist.methods.matching import sum_of_terms
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative, NonNegativeInt, PositiveInt, Share
from ddist.teachers import Teacher


class SRe2L(Method):
    """Images that a trained network (squeeze) takes for their classes and for real ones (recover):

        min over x of CE(teacher(A(x)), y)
                      + r_bn sum_l m_l (||mean_l(A(x)) - BN_l.mean|| + ||var_l(A(x)) - BN_l.var||)

    over the inputs of the teacher's layers of batch normalisation, m_1 = ``first_factor``, m_l = 1.
    Statistics are those of a batch, whose images are of different classes; all batches take their
    step in each outer step. Labels are the teacher's (relabel): see the protocol sre2l and
    ``teacher.store``.

    Args:
        teacher: a network with batch normalisation, or a committee of such.
        asked: of a committee, members in each outer step, in turn, whose losses are averaged (one:
            G-VBSM, Shao et al. 2024, arXiv 2311.17950; two: CV-DD, Cui et al. 2025, arXiv
            2501.07575); None for all.
        batch_classes: images of a batch, at most, each of another class.
        r_bn, first_factor: how much statistics count, and those of the first layer.
        augment: A, applied to each batch; None for none.
        jitter: A also rolls a batch by up to so many pixels, downwards and to the right.
        curriculum: the share of the outer steps in which the smallest area of a crop falls from the
            largest one, by half a cosine (CDA, Yin & Shen 2024, arXiv 2311.18838); 0 for none.
        blends: times that what the images started at is blended in again, evenly spread over the
            outer steps: x becomes keep x + (1 - keep) start, and the outer optimizer begins anew
            (FADRM, Cui et al. 2025, arXiv 2506.24125). 0 for none.
        keep: the share of the images that a blend keeps.
        rounds: equal parts of the outer steps; the images of a class join one part of them after
            the other, in their order, and stay (DELT, Shen et al. 2025, arXiv 2411.19946). 1: all
            from the beginning.
    """

    draws_networks = False
    start: Tensor

    def __init__(
        self,
        *,
        teacher: Teacher,
        asked: PositiveInt | None,
        batch_classes: PositiveInt,
        r_bn: NonNegative,
        first_factor: NonNegative,
        augment: Augment | None,
        jitter: NonNegativeInt,
        curriculum: Share,
        blends: NonNegativeInt,
        keep: Share,
        rounds: PositiveInt,
        **common: Any,
    ) -> None:
        if not all(member.batch_norms() for member in teacher.members):
            raise DdistError(
                "SRe2L matches the statistics of batch normalisation, which this teacher has not: "
                "choose one that has them, such as teacher.network=convnet_bn."
            )
        if asked is not None and asked > len(teacher.members):
            raise DdistError(
                f"method.asked={asked} counts members of a committee, and the teacher has "
                f"{len(teacher.members)}: name more in teacher.network, or ask fewer."
            )
        if curriculum and not isinstance(augment, RandomResizedCrop):
            raise DdistError(
                "method.curriculum is one of crops, and method.augment does not crop: set "
                "method.augment to ddist.augment.crop.RandomResizedCrop, as the recipe "
                "sre2l/imagenet1k does, or method.curriculum=0."
            )
        super().__init__(**common)
        self.teacher, self.asked, self.batch_classes = teacher, asked, batch_classes
        self.r_bn, self.first_factor = r_bn, first_factor
        self.augment, self.jitter, self.curriculum = augment, jitter, curriculum
        self.blends, self.keep, self.rounds = blends, keep, rounds
        if blends:
            self.register_buffer("start", self.synthetic()[0].detach().clone(), persistent=False)

    @torch.no_grad()
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        stages, accumulated = self.blends + 1, self.trainer.accumulate_grad_batches
        ends = [k * self.trainer.max_steps // stages * accumulated for k in range(1, stages)]
        if self.batch_number() in ends:
            self.synthetic.show(self.start.lerp(self.synthetic()[0], self.keep))
            self.trainer.optimizers[0].state.clear()

    def outer_loss(self, batch: Batch) -> Tensor:
        images, labels = self.synthetic()
        # One image of each class after the other, so that a slice is a batch.
        counts = torch.bincount(self.synthetic.classes.cpu())
        number = torch.cat([torch.arange(count) for count in counts.tolist()])  # within its class
        order = number.argsort(stable=True)
        order = order[number[order] < self.joined(int(counts.max()))]
        x, y = (tensor[order.to(images.device)] for tensor in (images, labels))
        rows = torch.arange(len(x)).split(torch.bincount(number[order]).tolist())
        batches = [batch_rows for row in rows for batch_rows in row.split(self.batch_classes)]

        def term(x: Tensor, of_batch: Tensor) -> Tensor:
            key = self.global_rank, self.batch_number(), int(of_batch[0])
            return self.loss(x, y[of_batch.to(y.device)], generator(self.seed, "recover", *key))

        return sum_of_terms(term, x, batches, self.loss_scale())

    def joined(self, most: int) -> int:
        """Return how many of ``most`` images of a class are learned at this outer step; the first
        rounds have one more where they do not come out even."""
        if self.rounds == 1:
            return most
        over = 1 + min(self.rounds - 1, self.global_step * self.rounds // self.trainer.max_steps)
        return over * (most // self.rounds) + min(over, most % self.rounds)

    def loss(self, x: Tensor, y: Tensor, stream: torch.Generator) -> Tensor:
        """Return the loss of one batch: images [B, C, H, W] and labels, [B] or [B, K]."""
        if (augment := self.augment_now()) is not None:
            x = augment(x, stream)
        down, right = torch.randint(self.jitter + 1, (2,), generator=stream).tolist()
        x = torch.roll(x, (down, right), (2, 3))
        losses = [self.loss_by(member, x, y) for member in self.members_now()]
        return torch.stack(losses).mean()

    def members_now(self) -> list[Teacher]:
        """Return the teachers that this outer step asks."""
        members = self.teacher.members
        num = self.asked or len(members)
        return [members[(self.batch_number() * num + k) % len(members)] for k in range(num)]

    def loss_by(self, teacher: Teacher, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of augmented images [B, C, H, W] by one teacher."""
        logits, inputs = teacher.with_inputs(x)
        factors = [self.first_factor] + [1.0] * (len(inputs) - 1)
        features, means, variances = zip(*inputs, strict=True)
        statistics = statistics_loss(features, means, variances, factors)
        return F.cross_entropy(logits, y) + self.r_bn * statistics

    def augment_now(self) -> Augment | None:
        """Return A at this outer step, t of T: the smallest area is
        low + (high - low) (1 + cos(pi t / (curriculum T))) / 2, and later low."""
        if not self.curriculum:
            return self.augment
        assert isinstance(self.augment, RandomResizedCrop)
        over = min(1.0, self.global_step / (self.curriculum * self.trainer.max_steps))
        return self.augment.larger((1 + cos(pi * over)) / 2)
