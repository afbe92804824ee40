import pytest
import torch
from torch import Tensor
from torchvision.transforms import Normalize

from ddist.artifact.normalization import MeanStd, Normalization, Unit, Zca
from ddist.data.statistics import channel_statistics, mean_std
from ddist.data.whitening import fit_zca
from ddist.errors import DdistError
from ddist.seeding import generator


@pytest.fixture
def x() -> Tensor:
    return torch.randint(256, (50, 3, 6, 6), dtype=torch.uint8, generator=generator(0, "x"))


@pytest.fixture(params=["none", "mean_std", "zca"])
def normalization(request: pytest.FixtureRequest, x: Tensor) -> Normalization:
    if request.param == "none":
        return Unit()
    return mean_std(x, None, None) if request.param == "mean_std" else Zca(**fit_zca(x))


def test_inverse_gives_the_pixels_back(normalization: Normalization, x: Tensor) -> None:
    there = normalization(x)
    assert there.dtype == torch.float32
    assert there.shape == x.shape
    torch.testing.assert_close(normalization.inverse(there), x / 255, atol=2e-6, rtol=0)
    outside = there * 3  # learned images leave [0, 1], and must not be clamped on the way
    torch.testing.assert_close(
        normalization(normalization.inverse(outside)), outside, atol=1e-4, rtol=0
    )


def test_float_pixels_mean_the_same_as_uint8(normalization: Normalization, x: Tensor) -> None:
    torch.testing.assert_close(normalization(x.double() / 255), normalization(x))


def test_state_rebuilds_it(normalization: Normalization, x: Tensor) -> None:
    rebuilt = Normalization.from_state(normalization.state())
    assert type(rebuilt) is type(normalization)
    assert torch.equal(rebuilt(x), normalization(x))


def test_to_moves_every_tensor(normalization: Normalization) -> None:
    state = normalization.to("meta").state().values()
    assert all(value.device.type == "meta" for value in state if isinstance(value, Tensor))


def test_mean_std_is_torchvisions(x: Tensor) -> None:
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    torch.testing.assert_close(mean_std(x, mean, std)(x), Normalize(mean, std)(x / 255))


def test_statistics_are_those_of_all_pixels(x: Tensor) -> None:
    std, mean = torch.std_mean(x.double() / 255, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(channel_statistics(x), (mean, std))
    normalised = mean_std(x, None, None)(x)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3), correction=0), torch.ones(3))


def test_one_published_value_serves_grey_shown_as_rgb(x: Tensor) -> None:
    assert mean_std(x, [0.1307], [0.3081]).mean.tolist() == pytest.approx([0.1307] * 3)


def test_mistakes_are_named(x: Tensor) -> None:
    with pytest.raises(DdistError, match="belong together"):
        mean_std(x, [0.5], None)
    with pytest.raises(DdistError, match="has 3 values but the images have 1"):
        mean_std(x[:, :1], [0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    with pytest.raises(DdistError, match="constant"):
        mean_std(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), None, None)
    with pytest.raises(DdistError, match="Unknown normalisation 'gcn'"):
        Normalization.from_state({"kind": "gcn"})
    with pytest.raises(DdistError, match="lacks its tensor 'std'"):
        Normalization.from_state({"kind": "mean_std", "mean": torch.zeros(1)})


def test_zca_keeps_its_digits_under_autocast(x: Tensor) -> None:
    zca = Zca(**fit_zca(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(zca(x), zca(x).float())
        inside = zca(x)
    assert torch.equal(inside, zca(x))


def test_mean_std_keeps_its_gradient() -> None:
    """Images are shown and clamped through ``inverse``: it must stay differentiable."""
    image = torch.zeros(1, 1, 2, 2, requires_grad=True)
    MeanStd(torch.tensor([0.1]), torch.tensor([0.3])).inverse(image).sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad, torch.full((1, 1, 2, 2), 0.3))
