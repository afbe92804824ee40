"""One picture of a set of images: a row per class and a column per image, in the order of the
steps where there are any. Classes flow into several panels where one column would be too tall."""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ddist.artifact.layout import FONT, GAP, LINE, SMALL_FONT, Layout, font, lay_out

Scaling = Literal["auto", "clip", "robust"]

MAX_IMAGES = 300  # drawn at most: beyond that nobody looks at single images
MARGIN = 16  # pixels
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
    chosen = torch.tensor([index for indices in rows.values() for index in indices])
    shown, mapping = displayable(pixels.detach()[chosen.to(pixels.device)].float().cpu(), scaling)
    header = column_steps(list(rows.values()), steps)
    layout = lay_out(
        [class_names[c] for c in rows],
        num_columns=max(map(len, rows.values())),
        width=pixels.shape[3],
        height=pixels.shape[2],
        top=LINE if header else 0,
    )
    images = iter(shown)
    tiles = [[tile(next(images), layout.tile) for _ in indices] for indices in rows.values()]
    return draw(tiles, layout, header, title, " · ".join(filter(None, [mapping, left_out])))


def arrange(
    classes: Tensor, steps: Tensor, limit: int = MAX_IMAGES
) -> tuple[dict[int, list[int]], str]:
    """The images to draw, as indices per class in step order, and a note on what was left out.

    At most ``limit`` images: the same number of each class, or the first classes only.
    """
    present: list[int] = sorted(set(classes.tolist()))
    per_class = max(1, limit // len(present))
    order = steps.argsort(stable=True)
    rows = {c: order[classes[order] == c][:per_class].tolist() for c in present[:limit]}
    most = int(classes.bincount().max())
    notes = []
    if len(present) > limit:
        notes.append(f"first {limit} of {len(present)} classes")
    if most > per_class:
        notes.append(f"first {per_class} of {most} images per class")
    return rows, ", ".join(notes)


def displayable(pixels: Tensor, scaling: Scaling) -> tuple[Tensor, str]:
    """``pixels`` as uint8 [N, 1 or 3, H, W] and the caption that says how.

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
    """Each image's own 1st to 99th percentile, mapped to 0..1 (values beyond are not cut)."""
    values = pixels.flatten(1).sort(dim=1).values
    k = ceil(0.01 * values.shape[1])
    low, high = values[:, k - 1].view(-1, 1, 1, 1), values[:, -k].view(-1, 1, 1, 1)
    return (pixels - low) / (high - low).clamp_min(1e-6)


def column_steps(rows: list[list[int]], steps: Tensor) -> list[int]:
    """The step of each column, or [] where there is one step only or classes disagree."""
    sequences = {tuple(steps[indices].tolist()) for indices in rows}
    columns = list(sequences.pop()) if len(sequences) == 1 else []
    return columns if len(set(columns)) > 1 else []


def tile(image: Tensor, size: tuple[int, int]) -> Image.Image:
    """A uint8 image [1 or 3, H, W] at ``size``: enlarged without smoothing, shrunk with."""
    array = image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).contiguous().numpy()
    grows = size[0] >= image.shape[2]
    how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return Image.fromarray(array).resize(size, how)


def draw(
    tiles: list[list[Image.Image]], layout: Layout, header: list[int], title: str, note: str
) -> Image.Image:
    """Put the title, the step of each column, labels, tiles and the note on paper."""
    text_width = max(font(FONT, bold=True).getlength(title), font(SMALL_FONT).getlength(note))
    width = max(layout.size[0], ceil(text_width)) + 2 * MARGIN
    left, top = (width - layout.size[0]) // 2, MARGIN + (LINE + 10 if title else 0)
    paper = Image.new("RGB", (width, top + layout.size[1] + 28 + MARGIN), PAPER)
    pen = ImageDraw.Draw(paper)
    pen.text((width / 2, MARGIN + 10), title, INK, font(FONT, bold=True), anchor="mm")
    tile_width, tile_height = layout.tile
    for name, row, corner in zip(layout.names, tiles, layout.corners, strict=True):
        x, y = left + corner[0], top + corner[1]
        if layout.above:
            spot, anchor = (x + tile_width / 2, y - LINE / 2), "mm"
        else:
            spot, anchor = (x - 8, y + tile_height / 2), "rm"
        pen.text(spot, name, INK, font(layout.font_size), anchor=anchor)
        columns = [x + i * (tile_width + GAP) for i in range(len(row))]
        for column, picture in zip(columns, row, strict=True):
            paper.paste(picture, (column, y))
        if header and corner[1] == LINE:  # the first row of a panel
            pen.text((x - 8, y - LINE / 2), "step", FAINT, font(SMALL_FONT), anchor="rm")
            for column, step in zip(columns, header, strict=True):
                spot = (column + tile_width / 2, y - LINE / 2)
                pen.text(spot, str(step + 1), FAINT, font(SMALL_FONT), anchor="mm")
    spot = (width / 2, top + layout.size[1] + 18)
    pen.text(spot, note, FAINT, font(SMALL_FONT), anchor="mm")
    return paper
