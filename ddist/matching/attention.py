"""Where a network looks: maps of its activations without their channels."""

from torch import Tensor
from torch.nn.functional import normalize


def attention(x: Tensor, power: float) -> Tensor:
    """Return the attention [N, H W] of feature maps [N, C, H, W]: sum_c |x_c|^power at each place,
    of Euclidean length 1 (Sajedi et al. 2023, arXiv 2310.00093, eq. 1-2)."""
    return normalize(x.abs().pow(power).sum(1).flatten(1))
