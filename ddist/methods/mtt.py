"""Matching Training Trajectories (Cazenavette et al. 2022, arXiv 2203.11932)."""

import logging
from collections.abc import Iterable, Iterator
from math import exp
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ddist.augment import Siamese
from ddist.errors import DdistError
from ddist.experts import Stored, Trajectories
from ddist.inner.predict import predict
from ddist.inner.steps import sgd
from ddist.inner.student import student_batches, student_loss
from ddist.inner.unroll import unroll
from ddist.matching.trajectory import nearest_step, trajectory_distance
from ddist.methods.base import Batch
from ddist.methods.moving import gradients
from ddist.methods.unrolled import Unrolled
from ddist.networks import Weights
from ddist.seeding import generator
from ddist.settings.ranges import NonNegativeInt, Positive, PositiveInt
from ddist.synthetic.steps import SMALLEST, StepSizes, best_step_size, check_distance

NUM_TRIALS = 3  # experts and epochs by which a step size is chosen to start from
log = logging.getLogger(__name__)


class MTT(Unrolled):
    """Images that lead a student, from a point of an expert's training, to where the expert went.

        theta_0     = theta*_t                              of an expert trained on the real images
        theta_{n+1} = theta_n - eta grad l(A(x_n), theta_n)         n = 0 .. N - 1
        min over x, eta of  ||theta_N - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2   (eq. 2)

    t is uniform in [min_start_epoch, max_start_epoch), x_n is a random batch of the synthetic
    images and A an augmentation. With other settings of the same loop it is TESLA (``unroll``,
    ``label_start``; Cui et al. 2022) and FTD (flat experts, ``ema``; Du et al. 2023).

    Args:
        student_steps, expert_epochs: N and M.
        min_start_epoch, max_start_epoch: of t.
        batch_syn: synthetic images in a student step, in random order without replacement until
            all had their turn; None for all of them.
        step_size: where eta starts; it is learned. None for where eq. 2's distance is smallest.
        log_step_size: whether its logarithm is learned, by gradients cut at 1. Then its learning
            rate bounds its relative change and fits any dataset; a published one is of eta itself.
        label_start: of soft labels: "classes" (see ``synthetic.label_logit``) or "experts" (mean
            logits of those that classify the image right; of all, where none does).
        num_teachers: experts that are asked.
        max_loss: an outer step whose loss is larger changes nothing; None for no bound.
        nearest: whether N is only the most steps, and the student takes as many as bring it nearest
            to theta*_{t+M}, by absolute differences (ATT, Liu et al. 2024).
        augment: A.
        trajectories: the experts.
    """

    supports_fp16 = False
    draws_networks = False
    held_steps: Tensor

    def __init__(
        self,
        *,
        student_steps: PositiveInt,
        expert_epochs: PositiveInt,
        min_start_epoch: NonNegativeInt,
        max_start_epoch: PositiveInt,
        batch_syn: PositiveInt | None,
        step_size: Positive | None,
        log_step_size: bool,
        label_start: Literal["classes", "experts"],
        num_teachers: PositiveInt,
        max_loss: Positive | None,
        nearest: bool,
        augment: Siamese,
        trajectories: Trajectories | Stored,
        **common: Any,
    ) -> None:
        super().__init__(num_steps=1, step_sizes=StepSizes(1, 1, step_size or SMALLEST), **common)
        if min_start_epoch >= max_start_epoch:
            raise DdistError(
                f"method.min_start_epoch={min_start_epoch} and "
                f"method.max_start_epoch={max_start_epoch} leave no epoch to start from: the first "
                "is below the second."
            )
        self.student_steps, self.expert_epochs = student_steps, expert_epochs
        self.min_start_epoch, self.max_start_epoch = min_start_epoch, max_start_epoch
        self.last_epoch = last_epoch(max_start_epoch, expert_epochs)
        self.batch_syn = batch_syn
        if self.synthetic.took_step_sizes:
            step_size = float(self.learned_step_sizes().detach())
        self.step_size, self.log_step_size = step_size, log_step_size
        self.label_start, self.num_teachers = label_start, num_teachers
        self.augment, self.trajectories, self.max_loss = augment, trajectories, max_loss
        self.nearest = nearest
        self._expert_accuracies: list[float] = []
        self.register_buffer("held_steps", torch.tensor(0))

    # -- the paper's equation --------------------------------------------------------------------

    def outer_loss(self, batch: Batch) -> Tensor:
        stream = generator(self.seed, "trajectory", self.global_rank, self.batch_number())
        start, target = self.draw_experts(stream)
        end = self.train_student(start, stream, target if self.nearest else None)
        return self.held(self.distance(end, target, start))

    def draw_experts(self, stream: torch.Generator) -> tuple[Weights, Weights]:
        """Draw an expert and t, and return (theta*_t, theta*_{t+M})."""
        expert = int(torch.randint(self.trajectories.num_experts, (), generator=stream))
        epoch = int(torch.randint(*self.start_epochs(), (), generator=stream))
        both = epoch, epoch + self.expert_epochs
        start, target = (self.trajectories.read(self.network, expert, at) for at in both)
        return start, target

    def start_epochs(self) -> tuple[int, int]:
        """Return the first t and the one after the last."""
        return self.min_start_epoch, self.max_start_epoch

    def train_student(
        self, start: Weights, stream: torch.Generator, target: Weights | None = None
    ) -> Weights:
        """Train the student to theta_N, or as near to ``target`` as it comes before, differentiable
        in the images, labels and step size."""
        images, labels = self.synthetic()
        size = self.learned_step_sizes()[0, 0]
        batches = student_batches(
            images,
            labels,
            size=self.batch_syn,
            steps=self.student_steps,
            augment=self.augment,
            generator=stream,
        )
        step = sgd(student_loss(self.network, self.augment))
        if target is not None:
            batches = batches[: nearest_step(step, start, batches, size, target)]
        return unroll(step, start, batches, [size] * len(batches), graph=self.graph)

    def unrolled(self) -> tuple[int, int]:
        return min(len(self.synthetic.classes), self.batch_syn or 2**31), self.student_steps

    def distance(self, end: Weights, target: Weights, start: Weights) -> Tensor:
        return trajectory_distance(end, target, start)

    # -- steps that change nothing ---------------------------------------------------------------

    def held(self, loss: Tensor) -> Tensor:
        """Return ``loss``, with a gradient of zero where it is above ``max_loss``."""
        return loss if self.max_loss is None else self.hold(loss, loss > self.max_loss)

    def hold(self, loss: Tensor, hold: Tensor) -> Tensor:
        """Return ``loss``, with a gradient of zero where ``hold``; count such steps."""
        hold = hold.detach() & loss.detach().isfinite()  # a loss that is not finite is an error
        self.held_steps += hold
        self.log("distill/held", self.held_steps / (self.batch_number() + 1))
        return torch.where(hold, loss.detach() + 0 * loss, loss)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave out a step whose gradients are all zero, as momentum would else go on. All ranks
        see the same gradients."""
        if not any(bool(gradient.any()) for gradient in gradients(optimizer)):
            optimizer.zero_grad(set_to_none=True)
        elif self.log_step_size:
            self.step_size_module().follow_logarithm()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the groups, with the published rate of eta divided by s^2: learned is not eta but
        raw, eta = softplus(raw), whose slope s at the start is close to eta."""
        groups = super().parameter_groups()
        for group in groups:
            if group["name"] == "step_sizes" and not self.log_step_size:
                assert self.step_size is not None, "setup has chosen one"
                group["lr"] /= (1 - exp(-self.step_size)) ** 2
        return groups

    # -- around the steps ------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Train the missing experts, then set where labels and step size start. A checkpoint is
        restored afterwards, and knows the images and labels as they are by then."""
        self.network.to(self.data.device)
        self._expert_accuracies = self.trajectories.prepare(self.network, self.last_epoch)
        self.begin()
        if self.step_size is None:
            self.step_size = best_step_size(self.mean_distance_at)
            self.step_size_module().begin(self.step_size)
            log.info("The student's step size starts at %.3g.", self.step_size)

    @torch.no_grad()
    def mean_distance_at(self, step_size: float) -> float:
        """Return the mean of eq. 2's distance with that step size over a few experts and epochs,
        the same for every size; never a subclass's, as what DDPP leaves out depends on the size."""
        self.step_size_module().begin(step_size)
        distances = []
        for trial in range(NUM_TRIALS):
            stream = generator(self.seed, "step size", trial)
            start, target = self.draw_experts(stream)
            distances.append(trajectory_distance(self.train_student(start, stream), target, start))
        return float(torch.stack(distances).mean())

    def step_size_module(self) -> StepSizes:
        assert self.synthetic.step_sizes is not None
        return self.synthetic.step_sizes

    def begin(self) -> None:
        """Start soft labels at the experts' mean logits, where ``label_start`` says so."""
        if self.label_start == "classes":
            return
        images, _ = self.synthetic()
        (logits,) = self.ask_experts([images.detach().to(self.data.device)])  # [teachers, N, K]
        right = logits.argmax(-1) == self.synthetic.classes.to(logits.device)
        counts = (right | ~right.any(0)).to(logits.dtype)
        self.synthetic.begin(logits=(logits * counts[..., None]).sum(0) / counts.sum(0)[:, None])

    def ask_experts(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Return, for each of ``batches``, images [N, C, H, W], the logits [num_teachers, N, K] of
        the experts at their last epoch."""
        num = min(self.num_teachers, self.trajectories.num_experts)
        teachers = [self.trajectories.read(self.network, k, self.last_epoch) for k in range(num)]
        stacked = {name: torch.stack([w[name] for w in teachers]) for name in teachers[0]}
        return (predict(self.network, stacked, x) for x in batches)

    def figures(self) -> dict[str, float]:
        """Return the least, mean and largest test accuracy of the experts, as fractions."""
        if not (accuracies := self._expert_accuracies):
            return {}
        return {
            "expert_accuracy_min": min(accuracies),
            "expert_accuracy_mean": sum(accuracies) / len(accuracies),
            "expert_accuracy_max": max(accuracies),
        }

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.check_step_size()

    def check_step_size(self) -> None:
        """Raise a DdistError where the step size, if learned as eta itself, has diverged."""
        if not self.log_step_size and self.step_size is not None:
            size = float(self.learned_step_sizes().detach())
            check_distance(size, self.step_size, self.global_step, self._lr["step_sizes"])


def last_epoch(max_start_epoch: int, expert_epochs: int) -> int:
    """Return the last epoch of an expert that is of use."""
    return max_start_epoch - 1 + expert_epochs
