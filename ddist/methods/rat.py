"""Random Truncated Backpropagation Through Time (Feng, Vedantam & Kempe 2024, arXiv 2311.07025)."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from ddist.augment import Siamese
from ddist.errors import DdistError
from ddist.inner.parts import forward_in_parts, num_real_at_once
from ddist.inner.stacking import member
from ddist.inner.steps import adam, only_weights, sgd, with_moments, with_momentum
from ddist.inner.student import student_batches, student_loss
from ddist.inner.unroll import unroll
from ddist.methods.base import Batch
from ddist.methods.dd import OuterLoss
from ddist.methods.unrolled import Unrolled
from ddist.networks import Weights
from ddist.seeding import generator
from ddist.settings.ranges import Momentum, NonNegativeInt, Positive, PositiveInt


class RaT(Unrolled):
    """Images on which a student, trained for a random time, does well on real ones.

        theta_{n+1} = theta_n - eta Adam(grad l(A(x_n), theta_n)),      n = 0 .. N - 1
        min over x of  E_{theta_0 ~ p, N ~ U{B + W .. T}}  l(A'(x_real), theta_N)

    Only the last W of the N steps are differentiated, exactly; those before move theta alone. So
    the gradient is that of a short training, at any time of a long one. x_n is a random batch of
    the synthetic images, A an augmentation, and A' the same or none.

    Args:
        student_steps: T.
        window: W; None for full backpropagation through time: N = T, and all steps are
            differentiated.
        min_burn_in: B, the fewest steps before the window; the window stands still for T - W.
        inner: the student's optimizer, "adam" or "sgd".
        student_lr: eta, which is not learned.
        student_momentum: of SGD; beta_1 of Adam.
        batch_syn: synthetic images in a student step, in random order without replacement until
            all had their turn; None for all of them.
        num_networks: students per outer step, each with its own theta_0, N and batches; their
            losses are averaged.
        augment: A.
        augment_real: whether A' is A.
        objective: l on real data, (logits [B, K], y [B]) -> scalar.
    """

    supports_fp16 = False

    def __init__(
        self,
        *,
        student_steps: PositiveInt,
        window: PositiveInt | None,
        min_burn_in: NonNegativeInt,
        inner: Literal["adam", "sgd"],
        student_lr: Positive,
        student_momentum: Momentum,
        batch_syn: PositiveInt | None,
        num_networks: PositiveInt,
        augment: Siamese,
        augment_real: bool,
        objective: OuterLoss,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if window is not None and window > student_steps:
            raise DdistError(
                f"method.window is null (all steps) or at most method.student_steps="
                f"{student_steps}, not {window}."
            )
        most = student_steps - (window or student_steps)
        if min_burn_in > most:
            raise DdistError(
                f"method.min_burn_in is at most {most}, the steps that method.window leaves, not "
                f"{min_burn_in}."
            )
        self.student_steps, self.window, self.min_burn_in = student_steps, window, min_burn_in
        self.inner, self.student_lr, self.student_momentum = inner, student_lr, student_momentum
        self.batch_syn, self.num_networks = batch_syn, num_networks
        self.augment, self.augment_real, self.objective = augment, augment_real, objective

    def outer_loss(self, batch: Batch) -> Tensor:
        x_real, y_real = batch
        starts = self.draw_networks(self.num_networks)
        losses, correct = [], []
        for k in range(self.num_networks):
            stream = generator(self.seed, "student", self.global_rank, self.batch_number(), k)
            weights = self.train_student(member(starts, k), stream)
            x = self.augment(x_real, stream) if self.augment_real else x_real
            size = num_real_at_once(self.network, x, 1)
            logits = forward_in_parts(partial(self.logits, weights), x, size)
            losses.append(self.objective(logits, y_real))
            correct.append((logits.detach().argmax(-1) == y_real).float().mean())
        self.log("distill/accuracy", torch.stack(correct).mean(), prog_bar=True)
        return torch.stack(losses).mean()

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits [B, K] of images [B, C, H, W]."""
        predicted: Tensor = functional_call(self.network, weights, (x,))
        return predicted

    def train_student(self, start: Weights, stream: torch.Generator) -> Weights:
        """Return theta_N, differentiable in what the last W steps saw of the images and labels."""
        images, labels = self.synthetic()
        steps = self.draw_steps(stream)
        batches = student_batches(
            images,
            labels,
            size=self.batch_syn,
            steps=steps,
            augment=self.augment,
            generator=stream,
        )
        loss, momentum = student_loss(self.network, self.augment), self.student_momentum
        if self.inner == "adam":
            step, state = adam(loss, (momentum, 0.999)), with_moments(start)
        else:
            step, state = sgd(loss, momentum), with_momentum(start) if momentum else start
        eta = torch.tensor(self.student_lr, dtype=images.dtype, device=images.device)
        end = unroll(step, state, batches, [eta] * steps, graph=self.graph, window=self.window)
        return only_weights(end)

    def unrolled(self) -> tuple[int, int]:
        return min(
            len(self.synthetic.classes), self.batch_syn or 2**31
        ), self.window or self.student_steps

    def draw_steps(self, stream: torch.Generator) -> int:
        """Draw N, the student's number of steps."""
        if self.window is None:
            return self.student_steps
        first, last = self.min_burn_in + self.window, self.student_steps
        return int(torch.randint(first, last + 1, (), generator=stream))
