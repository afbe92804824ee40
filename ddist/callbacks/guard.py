"""A check that the outer loss is a number."""

import math
from collections.abc import Mapping

from torch import Tensor

from ddist.errors import DdistError


def check_finite(
    loss: Tensor, step: int, learning_rates: Mapping[str, float], step_sizes: Tensor | None
) -> None:
    """Raise a :class:`DdistError` that helps when the outer ``loss`` (a scalar) is NaN or infinite.

    ``learning_rates`` are the outer ones by parameter group; ``step_sizes`` are the student's
    (learned or fixed), None where the method takes no inner steps.
    """
    value = loss.item()
    if math.isfinite(value):
        return
    rates = ", ".join(f"{name} {rate:g}" for name, rate in learning_rates.items())
    inner = "" if step_sizes is None else f", student step sizes {_span(step_sizes)}"
    remedy = "a smaller outer learning rate"
    if step_sizes is not None:
        remedy += " or smaller initial step sizes"
    raise DdistError(
        f"The outer loss became {value} at step {step} (learning rates: {rates}{inner}): try "
        f"{remedy}, trainer.gradient_clip_val=1 or trainer.precision=32-true."
    )


def _span(values: Tensor) -> str:
    """Return ``0.02`` or ``0.01 to 0.04``: the range of the values."""
    low, high = values.min().item(), values.max().item()
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
