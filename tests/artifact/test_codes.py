"""Codes of images: their formulas, what they start at, and what they refuse."""

from collections.abc import Callable
from math import sin

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ddist.artifact.codes import KINDS, Codes, images_of
from ddist.artifact.codes.base import Code, with_mirrors
from ddist.artifact.codes.bases import Bases
from ddist.artifact.codes.field import Field, widest
from ddist.artifact.codes.frequency import Frequency, cosines
from ddist.artifact.codes.lowrank import LowRank
from ddist.artifact.codes.pixels import Pixels
from ddist.errors import DdistError

SHAPE = (2, 6, 4)
FIELD = Field(frequency=3.0, fit_steps=300)
CODES: dict[str, Code] = {
    "frequency": Frequency(), "lowrank": LowRank(), "bases": Bases(shrink=2), "field": FIELD,
    "pixels": Pixels(),
}  # fmt: skip


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def size(codes: dict[str, Tensor]) -> int:
    return sum(value.nbytes for value in codes.values())


@pytest.mark.parametrize("name", CODES)
def test_they_take_at_most_the_bytes_they_are_given(name: str) -> None:
    code, images = CODES[name], random(6, *SHAPE).float()
    assert code.name == name and KINDS[name] is type(code)
    for share in (1.0,) if name == "pixels" else (1.0, 0.71, 0.5):
        num_bytes = int(share * images.nbytes)
        codes = code.encode(images, num_bytes, images)
        assert 0.37 * num_bytes < size(codes) <= num_bytes, share
        assert code.decode(codes, SHAPE).shape == images.shape
    with pytest.raises(DdistError, match=r"copies"):
        code.encode(images, 6 * 4, images)


@pytest.mark.parametrize("name", CODES)
def test_the_gradient_is_plain_autograds(name: str) -> None:
    codes = CODES[name].encode(random(2, *SHAPE), 2 * 48 * 8, random(3, *SHAPE))
    learned = {key: value for key, value in codes.items() if value.is_floating_point()}

    def decode(*values: Tensor) -> Tensor:
        return CODES[name].decode({**codes, **dict(zip(learned, values, strict=True))}, SHAPE)

    assert torch.autograd.gradcheck(decode, [v.requires_grad_() for v in learned.values()])


def test_cosines_are_scipys() -> None:
    x = random(3, *SHAPE)
    coefficients = dctn(x.numpy(), axes=(2, 3), norm="ortho")
    codes = Frequency().encode(x, 3 * 48 * 8 + 48 * 2, x)
    assert codes["places"].tolist() == list(range(48)) and codes["places"].dtype == torch.int16
    np.testing.assert_allclose(codes["coefficients"].numpy(), coefficients.reshape(3, 48))
    torch.testing.assert_close(Frequency.decode(codes, SHAPE), x)
    torch.testing.assert_close(cosines(7) @ cosines(7).T, torch.eye(7, dtype=torch.float64))


def test_the_coefficients_of_most_energy_are_kept() -> None:
    """They are those of the sample; of the images, no other choice of as many loses less if these
    are the sample."""
    x, k = random(5, *SHAPE), 11
    codes = Frequency().encode(x, k * (5 * 8 + 2), x)
    spectrum = dctn(x.numpy(), axes=(2, 3), norm="ortho").reshape(5, 48)
    expected = np.sort(np.argsort(-(spectrum**2).mean(0))[:k])
    assert codes["places"].tolist() == expected.tolist()
    kept = np.zeros_like(spectrum)
    kept[:, expected] = spectrum[:, expected]
    by_scipy = idctn(kept.reshape(5, *SHAPE), axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(Frequency.decode(codes, SHAPE).numpy(), by_scipy, atol=1e-12)
    flat = Frequency().encode(x, k * (5 * 8 + 2), torch.ones(1, *SHAPE, dtype=torch.float64))
    assert {0, 24} <= set(flat["places"].tolist())  # the mean of each channel


def test_a_low_rank_is_the_nearest_of_that_rank() -> None:
    x = random(3, *SHAPE)
    codes = LowRank().encode(x, 3 * 2 * 10 * 2 * 8, x)
    assert codes["left"].shape == (3, 2, 6, 2)
    u, s, vh = np.linalg.svd(x.numpy(), full_matrices=False)
    nearest = np.einsum("nchr,ncr,ncrw->nchw", u[..., :2], s[..., :2], vh[..., :2, :])
    np.testing.assert_allclose(LowRank.decode(codes, SHAPE).numpy(), nearest, atol=1e-12)


def test_a_constant_image_still_learns_in_a_low_rank() -> None:
    codes = LowRank().encode(torch.zeros(1, *SHAPE), 10**4, torch.zeros(1, *SHAPE))
    learned = [value.requires_grad_() for value in codes.values()]
    image = LowRank.decode(codes, SHAPE)
    assert float(image.detach().abs().max()) < 2e-3
    gradients = torch.autograd.grad(image.sum(), learned)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_bases_are_the_best_ones_of_as_many() -> None:
    x = random(6, *SHAPE)
    small = avg_pool2d(x, 2).flatten(1).numpy()  # [6, 12]
    codes = Bases(shrink=2).encode(x, 3 * (12 + 6) * 8, x)
    assert codes["bases"].shape == (3, 2, 3, 2) and codes["weights"].shape == (6, 3)
    torch.testing.assert_close(
        codes["bases"].square().mean((1, 2, 3)), torch.ones(3, dtype=torch.float64)
    )
    s = np.linalg.svd(small, compute_uv=False)
    given = torch.einsum("nm,mchw->nchw", codes["weights"], codes["bases"]).flatten(1).numpy()
    assert np.square(small - given).sum() == pytest.approx(np.square(s[3:]).sum())
    decoded = Bases.decode(codes, SHAPE)
    assert decoded.shape == x.shape and not torch.equal(decoded[0], decoded[1])
    everything = Bases(shrink=1).encode(x, 10**6, x)
    torch.testing.assert_close(Bases.decode(everything, SHAPE), x)


def test_a_field_is_its_network_at_the_middle_of_each_pixel() -> None:
    codes = {name: value.double() for name, value in FIELD.first(2, 2, 3).items()}
    image = Field.decode(codes, SHAPE)[1]
    w = {name: value[1].tolist() for name, value in codes.items()}
    for row, column in ((0, 0), (5, 1), (2, 3)):
        p = (2 * (row + 0.5) / 6 - 1, 2 * (column + 0.5) / 4 - 1)
        one = [sin(sum(p[i] * w["w1"][i][j] for i in range(2)) + w["c1"][0][j]) for j in range(3)]
        two = [sin(sum(one[i] * w["w2"][i][j] for i in range(3)) + w["c2"][0][j]) for j in range(3)]
        for c in range(2):
            colour = sum(two[i] * w["w3"][i][c] for i in range(3)) + w["c3"][0][c]
            assert float(image[c, row, column]) == pytest.approx(colour)


def test_a_field_starts_near_the_images() -> None:
    rows = torch.linspace(-1, 1, 8)
    x = torch.stack([rows[:, None] * rows, (2 * rows)[:, None].sin() + rows])[:, None]
    codes = FIELD.encode(x, 2 * 80 * 4, x)
    missed = (FIELD.decode(codes, (1, 8, 8)) - x).square().mean((1, 2, 3)) / x.var((1, 2, 3))
    assert float(missed.max()) < 0.02
    again = FIELD.encode(x, 2 * 80 * 4, x)
    assert all(torch.equal(value, again[name]) for name, value in codes.items())


@pytest.mark.parametrize("channels", [1, 3])
def test_the_widest_field_has_the_numbers_and_the_next_has_not(channels: int) -> None:
    def count(width: int) -> int:
        return sum(value.numel() for value in FIELD.first(1, channels, width).values())

    for numbers in (8 + channels, 100, 384, 768, 3072):
        width = widest(numbers, channels)
        assert count(width) <= numbers < count(width + 1) if width else numbers < count(1)


def test_mirrors_follow_their_images() -> None:
    x = random(2, *SHAPE)
    assert with_mirrors(x, False) is x
    both = with_mirrors(x, True)
    torch.testing.assert_close(both[::2], x)
    torch.testing.assert_close(both[1::2], x.flip(-1))


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (lambda x: Codes("wavelets", False, x), "'wavelets', which this ddist cannot read"),
        (lambda x: Codes("frequency", False, {"places": x["places"]}), "of no images"),
        (lambda x: Codes("frequency", False, {**x, "places": x["places"] + 100}), "of no images"),
    ],
)
def test_what_no_code_has_made_is_refused(
    codes: Callable[[dict[str, Tensor]], Codes], said: str
) -> None:
    x = random(2, *SHAPE)
    with pytest.raises(DdistError, match=said):
        images_of(codes(Frequency().encode(x, x.nbytes // 2, x)), SHAPE)
