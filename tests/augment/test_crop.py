"""Random resized crops against torch's and torchvision's, and tiles in another order."""

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop as Theirs

from ddist.augment.crop import RandomResizedCrop, ShufflePatches, resize
from ddist.errors import DdistError
from ddist.seeding import generator

RATIO = [3 / 4, 4 / 3]


@pytest.mark.parametrize("size", [(14, 14), (28, 28), (9, 40)])
def test_a_crop_is_torchs_of_each_image(size: tuple[int, int]) -> None:
    """Enlarged and reduced, with antialiasing."""
    x = torch.rand(40, 2, 28, 32, generator=generator(0), dtype=torch.float64)
    crop = RandomResizedCrop(scale=[0.02, 1.0], ratio=[0.3, 3.0], mirror=False, size=size)
    boxes = crop.boxes(40, (28, 32), generator(1))
    for each, part, (top, rows, left, columns) in zip(
        resize(x, boxes, size), x, boxes.tolist(), strict=True
    ):
        cut = part[None, :, top : top + rows, left : left + columns]
        expected = F.interpolate(cut, size=size, mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(each, expected)
    assert torch.equal(crop(x, generator(1)), resize(x, boxes, size))


@pytest.mark.parametrize(
    ("scale", "ratio", "side"),
    [
        ([0.08, 1.0], RATIO, (32, 32)),
        ([0.5, 1.0], RATIO, (28, 28)),
        ([0.08, 1.0], [1, 1], (24, 40)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(
    scale: list[float], ratio: list[float], side: tuple[int, int]
) -> None:
    crop = RandomResizedCrop(scale=scale, ratio=ratio, mirror=False)
    ours = crop.boxes(2000, side, generator(0)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(1, *side)
        theirs = [Theirs.get_params(image, scale, ratio) for _ in range(2000)]
    for index, theirs_at in enumerate((0, 2, 1, 3)):  # (top, left, height, width) there
        other = [each[theirs_at] for each in theirs]
        assert ks_2samp(ours[:, index].tolist(), other).pvalue > 0.001
    assert (ours[:, 0] + ours[:, 1] <= side[0]).all() and (ours[:, 2] + ours[:, 3] <= side[1]).all()


def test_what_cannot_be_cut_out_is_the_whole_image() -> None:
    """All of a square has one ratio."""
    x = torch.rand(6, 1, 8, 8, generator=generator(0))
    crop = RandomResizedCrop(scale=[1.0, 1.0], ratio=RATIO, mirror=False)
    torch.testing.assert_close(crop(x, generator(1)), x)


def test_half_are_mirrored() -> None:
    x = torch.rand(400, 1, 4, 4, generator=generator(0))
    crop = RandomResizedCrop(scale=[1.0, 1.0], ratio=[1.0, 1.0], mirror=True)
    found = crop(x, generator(1))
    mirrored = (found - x.flip(3)).abs().amax((1, 2, 3)) < 1e-6
    assert 160 < int(mirrored.sum()) < 240
    torch.testing.assert_close(found[~mirrored], x[~mirrored])


def test_gradients_pass() -> None:
    x = torch.rand(2, 1, 5, 5, dtype=torch.float64, generator=generator(0)).requires_grad_()
    crop = RandomResizedCrop(scale=[0.2, 0.9], ratio=RATIO, mirror=True)
    assert torch.autograd.gradcheck(lambda x: crop(x, generator(1)), x)


def test_patches_change_places_and_stay_whole() -> None:
    """Patch (i, j) of 3 x 3 is i, j everywhere; 10 = 3 + 3 + 4 pixels."""
    at = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    x = torch.stack([at[:, None].expand(10, 10), at.expand(10, 10)]).float().expand(50, 2, 10, 10)
    found = ShufflePatches(factor=3)(x, generator(0))
    orders = set()
    for image in found:
        rows, columns = image[0, :, 0], image[1, 0]
        assert torch.equal(image[0], rows[:, None].expand(10, 10))
        assert torch.equal(image[1], columns.expand(10, 10))
        for line in (rows, columns):
            assert sorted(line.tolist()) == at.tolist()
            assert len(torch.unique_consecutive(line)) == 3
        orders.add((*rows.tolist(), *columns.tolist()))
    assert len(orders) > 10
    assert ShufflePatches(factor=1)(x, generator(0)) is x


def test_what_is_no_range_is_a_sentence() -> None:
    for options in ({"scale": [0.5, 1.5]}, {"scale": [0.5, 0.2]}, {"ratio": [0, 1]}):
        with pytest.raises(DdistError, match="is a range such as"):
            RandomResizedCrop(**({"scale": [0.5, 1.0], "ratio": RATIO, "mirror": True} | options))
