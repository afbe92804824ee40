"""The maximum mean discrepancy of features."""

import numpy as np
import torch
from sklearn.metrics.pairwise import rbf_kernel

from ddist.matching.discrepancy import mean_discrepancy

SCALES = torch.tensor([0.5, 2.0], dtype=torch.float64)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_that_of_sklearns_kernels() -> None:
    real, synthetic = features(3, 6, 4), features(3, 2, 4, seed=1) + 0.5
    expected = 0.0
    for r, s in zip(real.numpy(), synthetic.numpy(), strict=True):
        apart = np.square(r[:, None] - r[None]).sum(2)
        width = apart[~np.eye(6, dtype=bool)].mean()
        for scale in SCALES.tolist():
            k = [rbf_kernel(a, b, 1 / (scale * width)).mean() for a, b in ((r, r), (r, s), (s, s))]
            expected += (k[0] - 2 * k[1] + k[2]) / len(SCALES)
    torch.testing.assert_close(
        mean_discrepancy(real, synthetic, SCALES), torch.tensor(expected, dtype=torch.float64)
    )


def test_it_sees_what_means_do_not() -> None:
    """Zero for the same images alone, whatever the scale of the features."""
    real = features(2, 8, 5)
    same_mean = real.mean(1, keepdim=True).expand(-1, 8, -1)
    assert float(mean_discrepancy(real, real, SCALES)) < 1e-12
    apart = mean_discrepancy(real, same_mean, SCALES)
    assert float(apart) > 0.1
    torch.testing.assert_close(mean_discrepancy(9 * real, 9 * same_mean, SCALES), apart)


def test_the_gradient_is_plain_autograds_and_right_where_features_coincide() -> None:
    """A distance has no slope at 0, but its square has, and the kernel of that."""
    real, synthetic = features(2, 5, 3), features(2, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: mean_discrepancy(real, s, SCALES), synthetic)
    same = synthetic.detach()[:, :1].repeat(1, 2, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(mean_discrepancy(real, same, SCALES), same)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squares = (a[:, :, None] - b[:, None]).square().sum(3)
        width = (real[:, :, None] - real[:, None]).square().sum((1, 2, 3)) / 20
        widths = width[:, None, None, None] * SCALES
        return (-squares[..., None] / widths).exp().mean((1, 2, 3))

    expected = (kernel(real, real) - 2 * kernel(real, same) + kernel(same, same)).sum()
    (by_hand,) = torch.autograd.grad(expected, same)
    torch.testing.assert_close(gradient, by_hand)
