"""Distance of the features of synthetic images from those of real ones, as distributions."""

from torch import Tensor

from ddist.errors import DdistError


def mean_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the sum over classes of the squared Euclidean distance of the mean features (Zhao &
    Bilen 2023, eq. 5). ``real`` [K, B, F] and ``synthetic`` [K, M, F] to a scalar. Raise a
    DdistError for other shapes, which could broadcast to a number that means nothing."""
    if not (real.ndim == synthetic.ndim == 3 and real.shape[::2] == synthetic.shape[::2]):
        raise DdistError(
            "mean_distance takes real features [K, B, F] and synthetic ones [K, M, F] of the same "
            f"K classes and F features, not {list(real.shape)} and {list(synthetic.shape)}."
        )
    return (real.mean(1) - synthetic.mean(1)).square().sum()
