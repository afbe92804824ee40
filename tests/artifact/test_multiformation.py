"""Multi-formation: tiles in, tiles out, and what methods and artifacts make of them."""

from typing import Any

import pytest
import torch
from torch.nn.functional import interpolate

from ddist import DistilledDataset
from ddist.artifact.multiformation import compose, expand
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.seeding import generator
from ddist.synthetic import Pixel

LABELS = torch.tensor([0, 1, 1])


def make(data: RealData, **changes: Any) -> Pixel:
    options: dict[str, Any] = {
        "start": "real", "images": "learned", "labels": "hard", "label_logit": 5.0, "factor": 2,
        "bounded": False, "scarce": "refuse",
    }  # fmt: skip
    return Pixel(data, LABELS, generator(0, "test"), **(options | changes))


def test_each_tile_is_enlarged_to_the_full_size() -> None:
    x = torch.randn(2, 3, 6, 12)
    found = expand(x, 3)
    assert found.shape == (18, 3, 6, 12)
    tile = x[1:2, :, 2:4, 8:12]  # image 1, row 1, column 2
    expected = interpolate(tile, size=(6, 12), mode="bilinear")
    torch.testing.assert_close(found[9 + 3 * 1 + 2], expected[0])


def test_composing_constant_images_and_expanding_gives_them_back() -> None:
    x = torch.arange(8.0)[:, None, None, None].expand(8, 1, 4, 4)
    assert compose(x, 2).shape == (2, 1, 4, 4)
    assert torch.equal(expand(compose(x, 2), 2), x)
    assert expand(x, 1) is x and compose(x, 1) is x


def test_the_gradient_of_a_tile_stays_in_it() -> None:
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    expand(x, 2)[1].square().sum().backward()
    assert x.grad is not None
    assert (x.grad[..., :4, 4:] != 0).all()
    assert x.grad.count_nonzero() == 16
    assert torch.autograd.gradcheck(lambda x: expand(x, 2), x)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_a_stored_image_gives_tiles_of_its_own_class(digits: RealData, labels: str) -> None:
    pixel = make(digits, labels=labels)
    images, found = pixel()
    assert images.shape == (12, 1, 8, 8) and pixel.stored()[0].shape == (3, 1, 8, 8)
    classes = found if labels == "hard" else found.argmax(1)
    assert torch.equal(classes, LABELS.repeat_interleave(4))
    assert torch.equal(pixel.classes, classes)
    # four different real images of the class, seen at half the size
    small = interpolate(images, scale_factor=0.5, mode="area")
    assert len(small[:4].flatten(1).unique(dim=0)) == 4


def test_bounded_images_are_brought_back_into_the_range_of_pixels(digits: RealData) -> None:
    pixel = make(digits, bounded=True)
    inside = pixel.images.detach().clone()
    pixel.project()
    torch.testing.assert_close(pixel.images.detach(), inside)
    with torch.no_grad():
        pixel.images.mul_(10)
    free = make(digits)
    free.load_state_dict(pixel.state_dict())
    for each, bound in ((pixel, True), (free, False)):
        each.project()
        pixels = digits.normalization.inverse(each.images.detach())
        assert (bool((pixels > -1e-5).all()) and bool((pixels < 1 + 1e-5).all())) is bound


def test_a_factor_that_does_not_divide_the_side_is_a_sentence(digits: RealData) -> None:
    with pytest.raises(DdistError, match=r"synthetic\.factor=3 must divide .* 8x8"):
        make(digits, factor=3)


@pytest.mark.slow
def test_an_artifact_stores_the_images_and_trains_on_the_tiles(ddist: Any) -> None:
    folder = ddist.distil("synthetic=multiformation", "ipc=2")
    distilled = DistilledDataset.load(folder / "distilled")
    assert distilled.images.shape == (20, 1, 8, 8) and distilled.factor == 2
    images, labels = distilled.as_dataset().tensors
    assert torch.equal(images, expand(distilled.images, 2))
    assert torch.equal(labels, distilled.labels.repeat_interleave(4))
    replayed = list(distilled.replay())
    assert [len(x) for x, _, _ in replayed[:2]] == [40, 40]
    assert "2×2 training images" in (folder / "distilled" / "README.md").read_text()
