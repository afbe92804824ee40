"""RDED: the most realistic crops of real images, stitched (Sun et al. 2024, arXiv 2312.03526)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.augment.crop import RandomResizedCrop
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.methods.base import Method
from ddist.methods.selection import refuse_tiles
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt
from ddist.stages.progress import SHORT, Progress
from ddist.synthetic.start import images_per_class
from ddist.teachers import Teacher

_AT_ONCE = 256  # candidates whose crops are held at a time


class RDED(Method):
    """Nothing is learned: ``num_crops`` random crops of each candidate, a random real image, are
    scored by

        realism(crop, y) = -cross_entropy(teacher(crop), y),

    the best one is kept, and the ``factor``^2 ipc best of a class are stitched, ``factor`` x
    ``factor`` in each image. What a network trains on is the stitched image.

    Args:
        ipc: stitched images per class.
        teacher: scores the crops, each alone in the middle of an image of zeros.
        factor: crops in an image, per side.
        num_crops: crops of each candidate.
        candidates: random images of each class; None for all.
        scale: the least and largest share of an image's area in a crop, which has its shape.
        rank: of the candidates' best crops, the "surest" are stitched, or those nearest to the
            "middle" (DELT, Shen et al. 2025, which takes whole images).
    """

    learns = False

    def __init__(
        self,
        *,
        ipc: int,
        teacher: Teacher,
        factor: PositiveInt,
        num_crops: PositiveInt,
        candidates: PositiveInt | None,
        scale: tuple[float, float],
        rank: Literal["surest", "middle"],
        **common: Any,
    ) -> None:
        data: RealData = common["data"]
        _, height, width = data.image_shape
        if height % factor or width % factor:
            raise DdistError(
                f"method.factor={factor} must divide the images' sides, which are {height}x{width} "
                "pixels: choose another factor, or resize with dataset.size."
            )
        needed, smallest = factor**2 * ipc, data.smallest_class()
        if common.get("images_per_class"):  # as many as there are crops
            common["images_per_class"] = images_per_class(data, ipc, factor)
            needed = factor**2
        if needed > (smallest if candidates is None else min(smallest, candidates)):
            raise DdistError(
                f"ipc={ipc} takes {needed} real images of each class, one for each crop, but "
                f"method.candidates={candidates} and the smallest class of {data.name} has "
                f"{smallest}: choose a smaller ipc or method.factor, or more candidates."
            )
        super().__init__(ipc=ipc, **common)
        refuse_tiles(self.synthetic)
        self.teacher, self.factor, self.num_crops = teacher, factor, num_crops
        self.crop = RandomResizedCrop(
            scale=scale,
            ratio=(width / height, width / height),
            mirror=False,
            size=(height // factor, width // factor),
        )

        progress = Progress("cropping", "classes", data.num_classes, quiet=SHORT)

        def stitched(c: int) -> Tensor:
            stream = generator(self.seed, "rded", c)
            start, count = data.train.offsets[c], data.train.counts[c]
            chosen = start + torch.randperm(count, generator=stream)[:candidates]
            pairs = [self.best_crops(images, c, stream) for images in chosen.split(_AT_ONCE)]
            crops, losses = (torch.cat(column) for column in zip(*pairs, strict=True))
            ranked = losses.argsort(stable=True)
            if rank == "middle":
                ranked = from_the_middle(ranked)
            best = ranked[: factor**2 * self.images_per_class[c]]
            progress.to(c + 1)
            return stitch(crops[best], factor)

        with progress:
            self.synthetic.begin(torch.cat([stitched(c) for c in range(data.num_classes)]))

    def best_crops(self, indices: Tensor, c: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the most realistic of ``num_crops`` crops of each training image at ``indices``
        (int64 [N], all of class ``c``), [N, C, h, w], and its cross-entropy [N]."""
        x = self.data.images(indices.to(self.data.device))
        crops = [self.crop(x, stream) for _ in range(self.num_crops)]
        losses = torch.stack([self.losses(crop, c) for crop in crops])  # [num_crops, N]
        best = losses.argmin(0)
        rows = torch.arange(len(x), device=x.device)
        return torch.stack(crops)[best, rows], losses[best, rows]

    def losses(self, crops: Tensor, c: int) -> Tensor:
        """Return the teacher's cross-entropy [N] for class c of crops [N, C, h, w], zero-padded."""
        _, height, width = self.data.image_shape
        down, across = height - crops.shape[2], width - crops.shape[3]
        pads = (across // 2, across - across // 2, down // 2, down - down // 2)
        return -self.teacher.predict(F.pad(crops, pads)).log_softmax(1)[:, c]


def from_the_middle(ranked: Tensor) -> Tensor:
    """Return the entries [N] from the middle one outwards, alternating before and after it."""
    places = torch.arange(len(ranked), device=ranked.device)
    return ranked[(2 * (len(ranked) // 2 - 1 - places) - 0.5).abs().argsort(stable=True)]


def stitch(crops: Tensor, factor: int) -> Tensor:
    """Stitch crops [factor^2 M, C, h, w], the best first, to images [M, C, factor h, factor w]: the
    M best are the first tile of one image each, the next M the second, row by row."""
    channels, height, width = crops.shape[1:]
    tiles = crops.view(factor, factor, -1, channels, height, width)
    return tiles.permute(2, 3, 0, 4, 1, 5).reshape(-1, channels, factor * height, factor * width)
