"""The distance of mean features."""

import pytest
import torch

from ddist.errors import DdistError
from ddist.matching.distribution import mean_distance


def test_the_squared_distance_of_the_means_summed_over_classes() -> None:
    real = torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    synthetic = torch.tensor([[[3.0, 2.0]], [[1.0, 0.0]]])
    assert mean_distance(real, synthetic).item() == 4 + 1


@pytest.mark.parametrize("shape", [(3, 1, 4), (2, 1, 1), (2, 4), (1, 5, 4)])
def test_sides_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DdistError, match=r"\[2, 5, 4\] and \["):
        mean_distance(torch.zeros(2, 5, 4), torch.zeros(shape))
