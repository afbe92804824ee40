"""One picture of a set of images: a row per class and a column per image, in the order of the
steps where there are any. Classes flow into several panels where one column would be too tall."""

import functools
import io
from collections.abc import Sequence
from math import ceil, log
from pathlib import Path
from typing import Literal

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Scaling = Literal["auto", "clip", "robust"]

MAX_IMAGES = 300  # drawn at most: beyond that nobody looks at single images
MAX_TILE = 112  # pixels a side
TILE_AREA = 1.3e6  # pixels all tiles share, so that a picture stays near 1000 x 1000
ASPECT = 1.5  # width over height the panels aim at
MARGIN, GAP, PANEL_GAP, LINE, MAX_LABEL = 16, 3, 24, 24, 170  # pixels
FONT, SMALL_FONT = 18, 14  # pixels
INK, FAINT, PAPER = "#1f2328", "#656d76", "#ffffff"


def image_grid(
    pixels: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    step_index: Tensor | None = None,
    *,
    title: str = "",
    scaling: Scaling = "auto",
) -> Image.Image:
    """Draw ``pixels`` ([N, C, H, W]; 0 is black and 1 white, values beyond are allowed).

    ``labels`` are classes [N] or class scores [N, K] (the largest decides); ``step_index`` [N] is
    the student step an image belongs to. The caption says how values were mapped to grey levels
    and which images were left out. Channel counts other than 3 are averaged to one grey image.
    """
    classes = (labels if labels.ndim == 1 else labels.argmax(1)).cpu()
    steps = torch.zeros_like(classes) if step_index is None else step_index.cpu()
    rows, left_out = arrange(classes, steps)
    indices = torch.tensor([index for row in rows.values() for index in row])
    shown, mapping = displayable(pixels.detach()[indices.to(pixels.device)].float().cpu(), scaling)
    size = tile_size(len(indices), pixels.shape[3], pixels.shape[2])
    images = iter(shown)
    tiles = [[tile(next(images), size) for _ in row] for row in rows.values()]
    names, header = [class_names[c] for c in rows], column_steps(list(rows.values()), steps)
    return draw(names, tiles, header, title, " · ".join(filter(None, [mapping, left_out])))


def png(image: Image.Image, optimize: bool = True) -> bytes:
    """Return the image as a PNG file; ``optimize`` makes it smaller and takes time."""
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=optimize)
    return buffer.getvalue()


def arrange(
    classes: Tensor, steps: Tensor, limit: int = MAX_IMAGES
) -> tuple[dict[int, list[int]], str]:
    """Return the images to draw, as indices per class in step order, and a note on what was left
    out.

    At most ``limit`` images: the same number of each class, or the first classes only.
    """
    present: list[int] = sorted(set(classes.tolist()))
    per_class = max(1, limit // len(present))
    order = steps.argsort(stable=True)
    rows = {c: order[classes[order] == c][:per_class].tolist() for c in present[:limit]}
    largest = int(classes.bincount().max())
    notes = []
    if len(present) > limit:
        notes.append(f"first {limit} of {len(present)} classes")
    if largest > per_class:
        notes.append(f"first {per_class} of {largest} images per class")
    return rows, ", ".join(notes)


def displayable(pixels: Tensor, scaling: Scaling) -> tuple[Tensor, str]:
    """Return ``pixels`` as uint8 [N, 1 or 3, H, W] and the caption that says how.

    ``clip`` cuts values at 0 and 1. ``robust`` maps each image's own 1st to 99th percentile (all
    channels together, so that hues stay) to 0..1: distilled images that nothing holds to the pixel
    range would otherwise be flat black and white. ``auto`` clips unless more than a tenth of all
    values lie beyond [-0.1, 1.1].
    """
    channels = pixels.shape[1]
    if channels != 3:
        pixels = pixels.mean(1, keepdim=True)
    beyond = ((pixels < -0.1) | (pixels > 1.1)).float().mean().item()
    if scaling == "clip" or (scaling == "auto" and beyond <= 0.1):
        note = "pixel values clipped to [0, 1]"
    else:
        pixels, note = stretch(pixels), "each image stretched from its 1st to 99th percentile"
    if channels not in (1, 3):
        note += f", mean of {channels} channels"
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8), note


def stretch(pixels: Tensor) -> Tensor:
    """Map each image's own 1st to 99th percentile to 0..1 (values beyond are not cut)."""
    values = pixels.flatten(1).sort(dim=1).values
    k = ceil(0.01 * values.shape[1])
    low, high = values[:, k - 1].view(-1, 1, 1, 1), values[:, -k].view(-1, 1, 1, 1)
    return (pixels - low) / (high - low).clamp_min(1e-6)


def column_steps(rows: list[list[int]], steps: Tensor) -> list[int]:
    """Return the step of each column, or [] where there is one step only or classes disagree."""
    sequences = {tuple(steps[indices].tolist()) for indices in rows}
    columns = list(sequences.pop()) if len(sequences) == 1 else []
    return columns if len(set(columns)) > 1 else []


def tile_size(num_images: int, width: int, height: int) -> tuple[int, int]:
    """Return width and height of a tile: a whole multiple of the image, or a smaller copy."""
    scale = min(MAX_TILE, (TILE_AREA / num_images) ** 0.5) / max(width, height)
    scale = int(scale) if scale >= 1 else scale
    return max(1, int(width * scale)), max(1, int(height * scale))


def tile(image: Tensor, size: tuple[int, int]) -> Image.Image:
    """Return a uint8 image [1 or 3, H, W] at ``size``: enlarged without smoothing, shrunk with."""
    array = image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).contiguous().numpy()
    grows = size[0] >= image.shape[2]
    how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return Image.fromarray(array).resize(size, how)


def draw(
    names: list[str], tiles: list[list[Image.Image]], steps: list[int], title: str, note: str
) -> Image.Image:
    """Put the title, the step of each column, the classes' names and tiles, and the note on paper.

    A class with one image has its name above, and panels are read along the lines; otherwise names
    stand left, and panels are read down.
    """
    columns = max(map(len, tiles))
    width, height = tiles[0][0].size
    strip = columns * (width + GAP) - GAP
    above = columns == 1
    label = font(SMALL_FONT if above and width < 100 else FONT)
    names = [shorten(name, max(width, 64) if above else MAX_LABEL, label) for name in names]
    longest = ceil(max(label.getlength(name) for name in names))
    inset = max(0, longest - strip) // 2 if above else max(longest, 40 if steps else 0) + 10
    gap = 8 if above else PANEL_GAP
    panel = strip + inset + (inset if above else 0) + gap  # its width, with what lies between
    row = height + GAP + (LINE + 4 if above else 0)
    panels = num_panels(len(tiles), panel, row)
    rows = ceil(len(tiles) / panels)
    bold, small = font(FONT, bold=True), font(SMALL_FONT)
    content = max(panels * panel - gap, ceil(bold.getlength(title)), ceil(small.getlength(note)))
    left = MARGIN + (content - (panels * panel - gap)) // 2
    top = MARGIN + (LINE + 10 if title else 0) + (LINE if steps or above else 0)
    bottom = top + rows * row - (LINE if above else 0)
    paper = Image.new("RGB", (content + 2 * MARGIN, bottom + 28 + MARGIN), PAPER)
    pen = ImageDraw.Draw(paper)
    pen.text((paper.width / 2, MARGIN + 10), title, INK, bold, anchor="mm")
    for i, (name, pictures) in enumerate(zip(names, tiles, strict=True)):
        line, column = divmod(i, panels) if above else (i % rows, i // rows)
        x, y = left + column * panel + inset, top + line * row
        spot = (x + width / 2, y - LINE / 2) if above else (x - 8, y + height / 2)
        pen.text(spot, name, INK, label, anchor="mm" if above else "rm")
        for k, picture in enumerate(pictures):
            paper.paste(picture, (x + k * (width + GAP), y))
        if steps and line == 0:
            pen.text((x - 8, y - LINE / 2), "step", FAINT, small, anchor="rm")
            for k, step in enumerate(steps):
                spot = (x + k * (width + GAP) + width / 2, y - LINE / 2)
                pen.text(spot, str(step + 1), FAINT, small, anchor="mm")
    pen.text((paper.width / 2, bottom + 18), note, FAINT, small, anchor="mm")
    return paper


def num_panels(num_rows: int, width: int, height: int) -> int:
    """Return into how many panels rows of this size go, for a pleasant shape with few holes."""

    def badness(panels: int) -> float:
        per_panel = ceil(num_rows / panels)
        holes = panels * per_panel / num_rows - 1
        return abs(log(panels * width / (per_panel * height) / ASPECT)) + 15 * holes

    return min(range(1, num_rows + 1), key=badness)


def shorten(name: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """Return ``name``, cut with an ellipsis where it is wider than ``width`` pixels."""
    if face.getlength(name) <= width:
        return name
    while name and face.getlength(name + "…") > width:
        name = name[:-1]
    return name + "…"


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans from matplotlib's wheel: Pillow's own font lacks accents, Greek and
    Cyrillic."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)
