import pytest

from ddist.artifact.layout import (
    GAP,
    MAX_TILE,
    TILE_AREA,
    font,
    lay_out,
    num_panels,
    shorten,
    tile_size,
)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 10, 37, 100, 300])
@pytest.mark.parametrize("num_columns", [1, 2, 10])
@pytest.mark.parametrize("top", [0, 24])
def test_rows_do_not_overlap_and_lie_inside(num_rows, num_columns, top):
    layout = lay_out([f"class {i}" for i in range(num_rows)], num_columns, 32, 20, top)
    width = num_columns * (layout.tile[0] + GAP) - GAP
    boxes = [(x, y, x + width, y + layout.tile[1]) for x, y in layout.corners]
    for i, (left, upper, right, lower) in enumerate(boxes):
        assert left >= 0 and right <= layout.size[0]
        assert upper >= top and lower <= layout.size[1]
        for a, b, c, d in boxes[:i]:
            assert right <= a or c <= left or lower <= b or d <= upper


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
    assert shorten("cat", 100, 18) == "cat"
    cut = shorten("a very long class name", 100, 18)
    assert cut.endswith("…") and cut.startswith("a very")
    assert font(18).getlength(cut) <= 100
