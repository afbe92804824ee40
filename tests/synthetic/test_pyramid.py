"""Pyramids: their levels give back the images they start from, and stay pictures."""

from typing import Any

import pytest
import torch

from ddist.artifact.normalization import to_unit
from ddist.data import RealData
from ddist.synthetic import Pyramid
from ddist.synthetic.pyramid import colour_matrix, joined, sides, split


def make(data: RealData, **changes: Any) -> Pyramid:
    options: dict[str, Any] = {
        "start": "real", "images": "learned", "labels": "hard", "label_logit": 5.0, "factor": 1,
        "bounded": True, "scarce": "refuse", "coarsest": 2,
    }  # fmt: skip
    labels = torch.arange(data.num_classes)
    return Pyramid(data, labels, torch.Generator().manual_seed(0), **(options | changes))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 8)])
def test_levels_add_up(height: int, width: int) -> None:
    u = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    sizes = sides(height, width, 4)
    assert sizes[-1] == (height, width) and max(sizes[0]) <= 4
    levels = split(u, sizes)
    assert [tuple(level.shape[2:]) for level in levels] == sizes
    torch.testing.assert_close(joined(levels), u, rtol=1e-5, atol=1e-6)
    coarse = torch.nn.functional.adaptive_avg_pool2d(u, sizes[0])
    torch.testing.assert_close(levels[0], coarse)


@pytest.mark.parametrize("bounded", [True, False])
def test_it_starts_as_real_images(digits: RealData, bounded: bool) -> None:
    pyramid = make(digits, bounded=bounded)
    images = pyramid.stored()[0]
    pixels = digits.normalization.inverse(images.detach())
    real = to_unit(digits.train.x)
    nearest = torch.cdist(pixels.flatten(1), real.flatten(1)).min(1).values
    margin = 0.02 * 8 if bounded else 0.0  # 64 pixels, away from black and white
    assert float(nearest.max()) <= margin + 1e-3


def test_whatever_it_learns_stays_within_the_range_of_pixels(digits: RealData) -> None:
    pyramid = make(digits)
    before = pyramid.stored()[0].detach().clone()
    with torch.no_grad():
        for level in pyramid.levels:
            level += 5
    images = pyramid.stored()[0].detach()
    pixels = digits.normalization.inverse(images)
    assert float(pixels.min()) >= -1e-6 and float(pixels.max()) <= 1 + 1e-6
    assert float((images - before).abs().max()) > 0.5
    pyramid.project()
    torch.testing.assert_close(pyramid.stored()[0], images)


def test_levels_are_all_that_is_learned(digits: RealData) -> None:
    pyramid = make(digits)
    assert {name.partition(".")[0] for name, _ in pyramid.named_parameters()} == {"levels"}
    pyramid.stored()[0].square().sum().backward()
    for level in pyramid.levels:
        assert level.grad is not None and float(level.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in make(digits, images="frozen").parameters())


def test_images_that_a_method_begins_with_are_shown(digits: RealData) -> None:
    pyramid = make(digits, bounded=False)
    wanted = torch.randn(10, *digits.image_shape, generator=torch.Generator().manual_seed(1))
    for colour in (1.0, 0.5):
        pyramid.colour.fill_(colour)
        pyramid.begin(images=wanted)
        torch.testing.assert_close(pyramid.stored()[0], wanted, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_plain_autograds() -> None:
    sizes = sides(6, 6, 2)
    u = torch.randn(1, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = [level.requires_grad_() for level in split(u, sizes)]
    assert torch.autograd.gradcheck(lambda *parts: joined(parts).sigmoid(), levels)


def test_colours_have_the_pictures_covariance() -> None:
    """Of independent numbers M makes colours that vary together as the pixels do."""
    stream = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[1.0, 0.8, 0.5], [0.0, 0.6, 0.3], [0.0, 0.0, 0.2]])
    pixels = torch.einsum("dc,ndhw->nchw", mixing, torch.randn(50, 3, 8, 8, generator=stream))
    m = colour_matrix(pixels)
    expected = pixels.transpose(0, 1).flatten(1).cov()
    torch.testing.assert_close(m @ m.T / (m @ m.T)[0, 0], expected / expected[0, 0])
    assert float(m.norm(dim=0).max()) == pytest.approx(1.0)
