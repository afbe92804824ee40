"""Which image belongs to which student step, and how large the steps are."""

from math import expm1, log

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ddist.errors import DdistError


class StepSizes(nn.Module):
    """Learned, always positive step sizes, one per student step and epoch: softplus(raw) [E, S].

    Raises DdistError for a ``start`` that is not positive.
    """

    def __init__(self, epochs: int, steps: int, start: float) -> None:
        super().__init__()
        if not start > 0:
            raise DdistError(f"method.step_size is positive, such as 0.02, not {start}.")
        # The inverse of softplus, so that learning starts at ``start`` (Wang et al. 2018, code);
        # log(exp(start) - 1), written so that a large start does not overflow.
        raw = start + log(-expm1(-start))
        self.raw = nn.Parameter(torch.full((epochs, steps), raw))

    def forward(self) -> Tensor:
        return softplus(self.raw)

    @torch.no_grad()
    def begin(self, sizes: Tensor) -> bool:
        """Start at ``sizes`` [E, S], if there are as many; says whether."""
        if sizes.shape != self.raw.shape or not (sizes > 0).all():
            return False
        self.raw.copy_(sizes + torch.log(-torch.expm1(-sizes)))
        return True

    def __call__(self) -> Tensor:
        result: Tensor = super().__call__()
        return result


def spread_over_steps(ipc: int, num_classes: int, steps: int) -> tuple[Tensor, Tensor]:
    """Labels [N] and step index [N] of N = ipc x num_classes images spread over student steps.

    Every step holds every class, images of a class as evenly as they go; ordered by step, then by
    class. Raises DdistError when there are more steps than images per class.
    """
    if not 1 <= steps <= ipc:
        raise DdistError(
            f"method.student_steps={steps} needs at least one image per class in each step, but "
            f"ipc={ipc}: choose method.student_steps of at most {ipc} or a larger ipc."
        )
    per_step = [len(part) for part in torch.arange(ipc).tensor_split(steps)]
    labels = [torch.arange(num_classes).repeat_interleave(k) for k in per_step]
    index = [torch.full((k * num_classes,), s) for s, k in enumerate(per_step)]
    return torch.cat(labels), torch.cat(index)
