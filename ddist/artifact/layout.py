"""Where the tiles and labels of a picture go: pure arithmetic on pixels."""

import functools
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path

import matplotlib
from PIL import ImageFont

MAX_TILE = 112  # pixels a side
TILE_AREA = 1.3e6  # pixels all tiles share, so that a picture stays near 1000 x 1000
ASPECT = 1.5  # width over height the panels aim at
GAP, PANEL_GAP, LINE, MAX_LABEL = 3, 24, 24, 170  # pixels
FONT, SMALL_FONT = 18, 14  # pixels


@dataclass(frozen=True)
class Layout:
    """A row per class; rows fill panels of equal size. A class with one image has its label above
    and panels are read along the lines; otherwise labels stand left and panels are read down."""

    tile: tuple[int, int]  # width, height
    names: list[str]  # shortened to fit
    above: bool
    font_size: int
    corners: list[tuple[int, int]]  # x, y of each class's first tile
    size: tuple[int, int]  # of everything


def lay_out(names: list[str], num_columns: int, width: int, height: int, top: int) -> Layout:
    """Place a row of ``num_columns`` images (``width`` x ``height``) for each name, leaving ``top``
    pixels free at the head of each panel."""
    width, height = tile_size(len(names) * num_columns, width, height)
    above = num_columns == 1
    font_size = SMALL_FONT if above and width < 100 else FONT
    names = [shorten(name, max(width, 64) if above else MAX_LABEL, font_size) for name in names]
    longest = ceil(max(font(font_size).getlength(name) for name in names))
    tiles = num_columns * (width + GAP) - GAP
    gap = 8 if above else PANEL_GAP
    inset = max(0, longest - tiles) // 2 if above else max(longest, 40 if top else 0) + 10
    panel_width = tiles + (2 * inset if above else inset) + gap
    row_height = height + GAP + (LINE + 4 if above else 0)
    panels = num_panels(len(names), panel_width, row_height)
    per_panel = ceil(len(names) / panels)
    corners = []
    for i in range(len(names)):
        row, panel = divmod(i, panels) if above else (i % per_panel, i // per_panel)
        y = top + row * row_height + (LINE if above else 0)
        corners.append((panel * panel_width + inset, y))
    size = (panels * panel_width - gap, top + per_panel * row_height)
    return Layout((width, height), names, above, font_size, corners, size)


def tile_size(num_images: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of a tile: a whole multiple of the image, or a smaller copy."""
    scale = min(MAX_TILE, (TILE_AREA / num_images) ** 0.5) / max(width, height)
    scale = int(scale) if scale >= 1 else scale
    return max(1, int(width * scale)), max(1, int(height * scale))


def num_panels(num_rows: int, width: int, height: int) -> int:
    """Into how many panels rows of this size go, for a pleasant shape with few holes."""

    def badness(panels: int) -> float:
        per_panel = ceil(num_rows / panels)
        holes = panels * per_panel / num_rows - 1
        return abs(log(panels * width / (per_panel * height) / ASPECT)) + 15 * holes

    return min(range(1, num_rows + 1), key=badness)


def shorten(name: str, width: int, size: int) -> str:
    """``name``, cut with an ellipsis where it is wider than ``width`` pixels."""
    if font(size).getlength(name) <= width:
        return name
    while name and font(size).getlength(name + "…") > width:
        name = name[:-1]
    return name + "…"


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from matplotlib's wheel: Pillow's own font lacks accents, Greek and Cyrillic."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)
