"""Which image belongs to which student step, and how large the steps are."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ddist.errors import DdistError

SMALLEST, LARGEST = 1e-4, 10.0
"""The range in which a step size is looked for."""
FARTHEST = 100.0
"""A step size that many times larger or smaller than its start has diverged."""


class StepSizes(nn.Module):
    """Learned, always positive step sizes, one per student step and epoch: softplus(raw) [E, S].
    ``start`` is above 0. As d log(eta) / d raw = (1 - exp(-eta)) / eta <= 1, an outer step that
    moves raw by r (Adam: by its rate) changes no step size by more than a factor of exp(r)."""

    def __init__(self, epochs: int, steps: int, start: float) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.empty(epochs, steps))
        self.begin(start)

    @torch.no_grad()
    def begin(self, start: float | Tensor) -> bool:
        """Start at ``start``, one size for all or [E, S] of each. Return False, with nothing
        changed, unless they are as many and all above 0."""
        sizes = torch.as_tensor(start, device=self.raw.device).double()
        if (sizes.ndim and sizes.shape != self.raw.shape) or not (sizes > 0).all():
            return False
        # The inverse of softplus, so that learning starts at ``start`` (Wang et al. 2018, code);
        # log(exp(start) - 1), written so that a large start does not overflow.
        self.raw.copy_(sizes + torch.log(-torch.expm1(-sizes)))
        return True

    @torch.no_grad()
    def follow_logarithm(self) -> None:
        """Turn the gradient into one by which plain descent at rate r moves log(eta) along its own
        gradient, cut at 1, and so by r at most: d raw / d log(eta) = eta / (1 - exp(-eta))."""
        if self.raw.grad is not None:
            sizes = softplus(self.raw)
            slope = sizes / -torch.expm1(-sizes)
            self.raw.grad.mul_(slope).clamp_(-1, 1).mul_(slope)

    def forward(self) -> Tensor:
        return softplus(self.raw)

    def __call__(self) -> Tensor:
        result: Tensor = super().__call__()
        return result


def best_step_size(loss: Callable[[float], float]) -> float:
    """Find the step size, 1e-4 times a power of two, whose double no longer has a smaller ``loss``:
    small steps follow the gradient, so the first minimum is looked for from below."""
    size = SMALLEST
    before = loss(size)
    while size < LARGEST and (doubled := loss(2 * size)) < before:  # false for NaN
        size, before = 2 * size, doubled
    return size


def check_distance(size: float, start: float, step: int, rate: float) -> None:
    """Raise a DdistError where a step size, learned at ``rate``, is far from its ``start`` at the
    outer step ``step``."""
    if not start / FARTHEST < size < start * FARTHEST:
        raise DdistError(
            f"The student's step size became {size:.3g} at step {step}, from {start:g} at the "
            "start: try method.log_step_size=true with method.lr.step_sizes=0.05 (now "
            f"{rate:g}), or another method.step_size."
        )


def spread_over_steps(
    ipc: int | Sequence[int], num_classes: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Return labels [N] and step index [N] of images spread over student steps: ``ipc`` of each
    class, or one number for each.

    The images of a class are spread evenly, with one more in the first steps; a class with fewer
    images than steps is missing from the last ones. The order is by step, then by class. Raises
    DdistError when there are more steps than images of any class.
    """
    counts = torch.tensor([ipc] * num_classes if isinstance(ipc, int) else ipc)
    most = int(counts.max())
    if not 1 <= steps <= most:
        raise DdistError(
            f"method.student_steps={steps} needs at least one image per class in each step, but "
            f"ipc={most}: choose method.student_steps of at most {most} or a larger ipc."
        )
    # As tensor_split has it: the first steps have one more.
    per_step = [(counts + steps - 1 - step) // steps for step in range(steps)]
    labels = [torch.arange(num_classes).repeat_interleave(count) for count in per_step]
    index = [torch.full((len(count),), step) for step, count in enumerate(labels)]
    return torch.cat(labels), torch.cat(index)
