"""Moving averages, kept by checkpoints (as buffers): of images, and of their gradients' length."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class MovingAverage(nn.Module):
    """The average of a tensor after each outer step, the last ones counting most:

        a_n = d a_{n-1} + (1 - d) x_n,      d = min(decay, (1 + n) / (10 + n))

    Args:
        first: a_0.
        decay: of old averages; young ones decay faster.
    """

    value: Tensor
    steps: Tensor

    def __init__(self, first: Tensor, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", first.detach().clone())
        self.register_buffer("steps", torch.tensor(0))

    @torch.no_grad()
    def update(self, x: Tensor, steps: int) -> None:
        """Add ``x``, the tensor after ``steps`` steps, to the average, unless that was done; before
        the first step the average becomes ``x`` (a_0)."""
        if steps == 0:
            self.value.copy_(x)
        if self.steps == steps:
            return
        decay = min(self.decay, (1 + steps) / (10 + steps))
        self.value.lerp_(x, 1 - decay)
        self.steps.fill_(steps)


class GradientClip(nn.Module):
    """Clipping of gradients that are longer than ``factor`` times the moving average (decay 0.9) of
    those before, as they were clipped. The first stays as it is."""

    norm: Tensor

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("norm", torch.tensor(0.0))

    @torch.no_grad()
    def shorten(self, gradients: list[Tensor]) -> None:
        """Shorten gradients in place, all by the same factor. Without any, the average stays."""
        if not gradients:
            return
        norm = nn.utils.get_total_norm(gradients)
        known = self.norm > 0
        most = torch.where(known, self.factor * self.norm, norm)
        for gradient in gradients:
            gradient.mul_((most / norm).clamp(max=1))
        norm = torch.minimum(norm, most)
        mean = torch.where(known, 0.9 * self.norm + 0.1 * norm, norm)
        # Gradients that are not finite are fp16's, whose step is left out.
        self.norm.copy_(torch.where(mean.isfinite(), mean, self.norm))


def gradients(optimizer: Optimizer) -> list[Tensor]:
    """Return the gradients of those parameters of ``optimizer`` that have one."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [p.grad for p in parameters if p.grad is not None]
