"""The loss of running statistics against the authors' hook (DeepInversion, SRe2L)."""

import torch
from torch import nn

from ddist.matching.statistics import statistics_loss
from ddist.seeding import generator


def test_it_is_the_authors_formula() -> None:
    """Norms of the differences of means and of biased variances, over channels."""
    stream, shapes = generator(0), [(5, 3, 4, 4), (5, 7)]
    features = [torch.randn(s, generator=stream, dtype=torch.float64) for s in shapes]
    norms = [nn.BatchNorm2d(3).double(), nn.BatchNorm1d(7).double()]
    for norm in norms:
        norm.running_mean.normal_(generator=stream)
        norm.running_var.uniform_(generator=stream)
    expected = torch.zeros((), dtype=torch.float64)
    for x, norm, factor in zip(features, norms, (10.0, 1.0), strict=True):
        axes = [0, 2, 3][: x.ndim - 1]
        mean = x.mean(axes)
        var = ((x - mean.view(1, -1, *[1] * (x.ndim - 2))) ** 2).mean(axes)
        expected += factor * torch.norm(norm.running_var - var, 2)
        expected += factor * torch.norm(norm.running_mean - mean, 2)
    found = statistics_loss(
        features, [n.running_mean for n in norms], [n.running_var for n in norms], [10.0, 1.0]
    )
    torch.testing.assert_close(found, expected)


def test_a_batch_that_has_them_costs_nothing() -> None:
    x = torch.randn(64, 3, 8, 8, generator=generator(0), dtype=torch.float64)
    norm = nn.BatchNorm2d(3, momentum=1.0).double()
    norm(x)
    var = norm.running_var * (1 - 1 / (64 * 64))  # running statistics are unbiased
    assert float(statistics_loss([x], [norm.running_mean], [var], [1.0])) < 1e-12
