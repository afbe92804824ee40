"""CutMix: rectangles of other images, and labels by what is left."""

import pytest
import torch
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest

from ddist.augment.mix import InTurn, Mixed, cutmix
from ddist.seeding import generator


def images(num: int = 5, height: int = 9, width: int = 6) -> torch.Tensor:
    """Image i is i everywhere."""
    return torch.arange(num).float()[:, None, None, None].expand(num, 2, height, width)


def mixed(x: torch.Tensor, key: int, beta: float = 1.0) -> Mixed:
    return cutmix(x, generator(0, key), probability=1.0, beta=beta)


@pytest.mark.parametrize("key", range(20))
def test_one_rectangle_comes_from_the_partner_and_shares_are_areas(key: int) -> None:
    x = images()
    found = mixed(x, key)
    assert torch.equal(found.partner.sort()[0], torch.arange(5))
    assert torch.equal(x, images())  # not changed
    moved = next((i for i in range(5) if found.partner[i] != i), None)
    assert moved is not None
    foreign = found.x[moved, 0] != moved
    for i in range(5):
        expected = torch.where(foreign, float(found.partner[i]), float(i))
        assert torch.equal(found.x[i], expected.expand(2, -1, -1))
    assert found.share == pytest.approx(1 - float(foreign.float().mean()))
    rows, columns = foreign.any(1).sum(), foreign.any(0).sum()
    assert foreign.sum() == rows * columns


def test_with_probability_zero_nothing_changes() -> None:
    found = cutmix(images(), generator(0), probability=0.0, beta=1.0)
    assert torch.equal(found.x, images()) and found.share == 1.0
    assert torch.equal(found.partner, torch.arange(5))


def test_how_often() -> None:
    stream = generator(0)
    x = images(3, 32, 32)
    shares = [cutmix(x, stream, probability=0.3, beta=1.0).share for _ in range(1000)]
    assert 0.25 < sum(share < 1 for share in shares) / 1000 < 0.35


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_areas_are_of_the_beta_distribution(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no border cuts the rectangle."""
    monkeypatch.setattr(
        "ddist.augment.mix._interval", lambda u, size, side: slice(0, round(size * side))
    )
    x = torch.zeros(1, 1, 2000, 2000)[:, :, :, :]
    stream = generator(1)
    shares = [cutmix(x, stream, probability=1.0, beta=beta).share for _ in range(100)]
    assert kstest(shares, beta_distribution(beta, beta).cdf).pvalue > 0.01


def test_the_generator_alone_decides() -> None:
    x = torch.randn(6, 1, 8, 8, generator=generator(5))
    state = torch.random.get_rng_state()
    first, again, other = mixed(x, 1), mixed(x, 1), mixed(x, 2)
    assert torch.equal(first.x, again.x) and first.share == again.share
    assert not torch.equal(first.x, other.x)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_in_turn() -> None:
    both = InTurn(double=lambda x, g: 2 * x, noise=lambda x, g: x + torch.rand(1, generator=g))
    x = torch.ones(1)
    assert both(x, generator(0)) == 2 * x + torch.rand(1, generator=generator(0))
