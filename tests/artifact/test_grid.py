import numpy as np
import pytest
import torch

from ddist.artifact.grid import (
    FONT,
    MAX_IMAGES,
    MAX_TILE,
    TILE_AREA,
    arrange,
    column_steps,
    displayable,
    font,
    image_grid,
    num_panels,
    shorten,
    tile,
    tile_size,
)
from ddist.seeding import generator


def colours(num):
    """``num`` colours [num, 3] that neither paper, ink nor their blends (all greyish) have."""
    i = torch.arange(num)
    return torch.stack([(i % 20) * 6, 130 + i // 20 * 4, 125 + 0 * i], dim=1) / 255


def find(picture, palette):
    """For each colour: left, top and number of its pixels."""
    codes = np.asarray(picture, dtype=np.int32) @ [65536, 256, 1]
    values, first, area = np.unique(codes, return_index=True, return_counts=True)
    wanted = (palette * 255).round().int().numpy() @ [65536, 256, 1]
    at = np.searchsorted(values, wanted)
    assert (values[at] == wanted).all()
    return first[at] % picture.width, first[at] // picture.width, area[at]


@pytest.mark.parametrize(("num_classes", "per_class"), [(10, 1), (10, 10), (100, 3), (7, 2)])
@pytest.mark.parametrize("image_size", [(8, 8), (28, 28), (20, 33), (150, 224)])
def test_every_image_is_drawn_once_and_in_its_place(num_classes, per_class, image_size):
    num = num_classes * per_class
    palette = colours(num)
    pixels = palette[:, :, None, None].expand(-1, -1, *image_size)
    names = [f"class {c}" for c in range(num_classes)]
    # step-major, as the methods that replay have it
    labels = torch.arange(num_classes).repeat(per_class)
    steps = torch.arange(per_class).repeat_interleave(num_classes)
    shuffled = torch.randperm(num, generator=generator(0))
    picture = image_grid(pixels[shuffled], labels[shuffled], names, steps[shuffled])
    left, top, area = find(picture, palette)
    assert len(set(area)) == 1  # all of one size, none hidden or repeated
    # the next step of a class is to the right, on its line
    assert (left[:-num_classes] < left[num_classes:]).all()
    assert (top[:-num_classes] == top[num_classes:]).all()
    assert max(picture.size) < 2500


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "times"), [(8, 14), (28, 4), (32, 3), (100, 1)])
def test_enlarging_copies_pixels(channels, size, times):
    image = torch.randint(0, 256, (1, channels, size, size), generator=generator(0))
    picture = np.asarray(image_grid(image / 255, torch.tensor([0]), ["x"]).convert("RGB"))
    expected = image[0].repeat_interleave(times, 1).repeat_interleave(times, 2)
    expected = expected.expand(3, -1, -1).permute(1, 2, 0).to(torch.uint8).numpy()
    found = [(y, line.tobytes().find(expected[0].tobytes()) // 3) for y, line in enumerate(picture)]
    top, left = next((y, x) for y, x in found if x >= 0)
    side = size * times
    assert np.array_equal(picture[top : top + side, left : left + side], expected)


@pytest.mark.parametrize("num", [1, 10, 100, 300])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (64, 32), (224, 224)])
def test_tiles_keep_the_shape_and_share_a_bounded_area(num, size):
    width, height = tile_size(num, *size)
    assert max(width, height) <= MAX_TILE
    assert num * width * height <= TILE_AREA
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    if width >= size[0]:
        assert width % size[0] == 0 and height % size[1] == 0


def test_ten_single_images_make_two_lines_of_five():
    assert num_panels(10, 120, 140) == 5


def test_one_column_of_wide_rows_stays_one():
    assert num_panels(10, 1000, 90) == 1


def test_long_names_are_cut_to_fit():
    assert shorten("cat", 100, font(FONT)) == "cat"
    cut = shorten("a very long class name", 100, font(FONT))
    assert cut.endswith("…") and cut.startswith("a very")
    assert font(FONT).getlength(cut) <= 100


def test_big_images_are_shrunk():
    assert tile(torch.zeros(3, 224, 224, dtype=torch.uint8), (112, 112)).size == (112, 112)


def test_soft_labels_count_by_their_largest_score():
    pixels = torch.rand(6, 1, 8, 8, generator=generator(0))
    hard = torch.tensor([2, 0, 1, 1, 0, 2])
    soft = torch.nn.functional.one_hot(hard, 3) * 0.5 + 0.1
    names = ["a", "b", "c"]
    assert image_grid(pixels, hard, names) == image_grid(pixels, soft, names)


def test_parameters_odd_channels_and_missing_classes_are_drawn():
    pixels = torch.nn.Parameter(torch.rand(4, 5, 9, 7, generator=generator(0)))
    assert image_grid(pixels, torch.tensor([7, 7, 7, 2]), [str(c) for c in range(8)]).mode == "RGB"


@pytest.mark.parametrize(
    ("num_classes", "per_class", "drawn", "note"),
    [
        (10, 10, 100, ""),
        (10, 50, 300, "first 30 of 50 images per class"),
        (100, 10, 300, "first 3 of 10 images per class"),
        (200, 10, 200, "first 1 of 10 images per class"),
        (1000, 1, 300, "first 300 of 1000 classes"),
        (1000, 2, 300, "first 300 of 1000 classes, first 1 of 2 images per class"),
    ],
)
def test_at_most_300_are_drawn_and_that_is_said(num_classes, per_class, drawn, note):
    classes = torch.arange(num_classes).repeat(per_class)
    rows, said = arrange(classes, torch.zeros_like(classes))
    assert sum(map(len, rows.values())) == drawn <= MAX_IMAGES
    assert said == note
    for c, indices in rows.items():
        assert indices == [c + k * num_classes for k in range(len(indices))]


def test_columns_have_steps_only_where_all_classes_agree():
    steps = torch.tensor([0, 0, 1, 1])
    assert column_steps([[0, 2], [1, 3]], steps) == [0, 1]
    assert column_steps([[0, 2], [1]], steps) == []
    assert column_steps([[0, 1]], steps) == []


def test_clipping():
    pixels = torch.tensor([-1.0, 0.0, 0.5, 1.0, 3.0, 0.2]).view(1, 1, 2, 3)
    shown, note = displayable(pixels, "clip")
    assert shown.flatten().tolist() == [0, 0, 128, 255, 255, 51]
    assert "clipped" in note


@pytest.mark.parametrize("channels", [1, 3])
def test_stretching_is_each_image_by_its_own_percentiles(channels):
    pixels = torch.randn(3, channels, 30, 30, generator=generator(0)) * torch.tensor(
        [0.1, 1.0, 10.0]
    ).view(3, 1, 1, 1)
    shown, note = displayable(pixels, "robust")
    assert "1st to 99th percentile" in note
    for image, result in zip(pixels.numpy(), shown.numpy(), strict=True):
        low = np.percentile(image, 1, method="inverted_cdf")
        high = -np.percentile(-image, 1, method="inverted_cdf")
        expected = np.clip((image - low) / (high - low), 0, 1) * 255
        assert np.abs(result - expected).max() <= 0.5 + 1e-3


def test_auto_stretches_only_what_is_far_from_pixels():
    inside = torch.rand(4, 3, 8, 8, generator=generator(0)) * 1.18 - 0.09
    assert "clipped" in displayable(inside, "auto")[1]
    noise = torch.randn(4, 3, 8, 8, generator=generator(0)) * 0.5
    assert "percentile" in displayable(noise, "auto")[1]


def test_a_constant_image_far_away_is_drawn():
    shown, _ = displayable(torch.full((2, 1, 4, 4), 7.0), "auto")
    assert shown.dtype == torch.uint8
