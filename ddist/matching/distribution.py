"""Distance of the features of synthetic images from those of real ones, as distributions."""

from torch import Tensor


def mean_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the sum over classes of the squared Euclidean distance of the mean features (Zhao &
    Bilen 2023, eq. 5). ``real`` [K, B, F] and ``synthetic`` [K, M, F] to a scalar."""
    return (real.mean(1) - synthetic.mean(1)).square().sum()
