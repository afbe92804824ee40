"""Settings that say ``auto``: values that follow the data and the machine, each by a rule here.

A paper's recipe (conf/recipe) says plainly what it takes; these are for all other data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

AUTO = "auto"
PUBLISHED_WIDTH = 128
UNNAMED_BUDGET = "10m"
CPU_OPERATIONS = 20e6  # multiply-adds of an image in a ConvNet that a CPU does hundreds of a second
SMALLEST_CUT = 16  # pixels of a side: tiles of less than 8 show too little
IMAGES_PER_STEP = 320  # of all classes together, on a CPU


@dataclass(frozen=True)
class Facts:
    """What automatic settings follow.

    Args:
        side: pixels of the images' shorter side.
        num_classes: of the dataset.
        num_images: to train on.
        fewest: those of the smallest class.
        ipc: synthetic images per class.
        accelerator: whether there is one to compute on.
        own: whether it is somebody's own data, for which no paper has a network.
        timed: whether the time of the whole command is bounded.
        recipe: whether a paper's settings for this dataset are in use.
        learns: whether the method learns its images.
        least_depth: blocks of a ConvNet that the method needs.
        tiles: the side from which the method stores several images in one; None for never.
        chooses: whether the protocol shows chosen real images by itself.
        bf16: whether the device computes in bfloat16 by itself, and so faster.
    """

    side: int
    num_classes: int
    num_images: int
    fewest: int
    ipc: int
    accelerator: bool
    own: bool
    timed: bool
    recipe: bool
    learns: bool
    least_depth: int
    tiles: int | None
    chooses: bool
    bf16: bool


def depth(facts: Facts) -> int:
    """Return the blocks of a ConvNet, see :func:`blocks`, or more where the method needs them."""
    return max(facts.least_depth, blocks(facts.side))


def blocks(side: int) -> int:
    """Return the blocks for images of ``side`` pixels: the field's 3 for 28 and 32, 4 for 64, 5
    for 128."""
    return max(1, round(log2(side)) - 2)


def width(facts: Facts) -> int:
    """Return the filters of a ConvNet's block: the field's 128; for somebody's own data, or within
    a time, on a CPU as many as leave an image ``CPU_OPERATIONS``."""
    if facts.recipe or facts.accelerator or not (facts.own or facts.timed):
        return PUBLISHED_WIDTH
    widths = (128, 64, 32, 16)
    return next((w for w in widths if operations(facts, w) <= CPU_OPERATIONS), widths[-1])


def operations(facts: Facts, width: int) -> float:
    """Return the multiply-adds of one image in a ConvNet of that width and :func:`depth`."""
    pixels = [facts.side**2 / 4**block for block in range(depth(facts))]
    return 9 * (3 * width * pixels[0] + width**2 * sum(pixels[1:]))


def real_per_class(facts: Facts) -> int:
    """Return the real images of each class in a step: DC's 256; on a CPU as many as make
    ``IMAGES_PER_STEP`` of all classes together, but at least 8."""
    return 256 if facts.accelerator else max(8, min(256, IMAGES_PER_STEP // facts.num_classes))


def batch_real(facts: Facts) -> int:
    """Return the real images in a step that draws them from all classes: DD's 1024, on a CPU a
    quarter of that."""
    return min(facts.num_images, 1024 if facts.accelerator else 256)


def precision(facts: Facts) -> str:
    """Return the precision of distilling and of evaluating: papers compute in 32 bits."""
    return "bf16-mixed" if facts.bf16 and not facts.recipe else "32-true"


def factor(facts: Facts) -> int:
    """Return the training images per side in each stored one (IDC, Kim et al. 2022): 2 where the
    method wants it of images so large and each class has as many real ones to start from."""
    suits = facts.tiles is not None and facts.side >= facts.tiles
    return 2 if suits and facts.fewest >= 4 * facts.ipc else 1


def coreset(facts: Facts) -> str | None:
    """Return how the real images are chosen that a set is shown beside: papers show random ones."""
    shown = facts.learns and not (facts.recipe or facts.chooses)
    return "kmeans_embedding" if shown else None


def held_out(recipe: bool, learns: bool) -> float | None:
    """Return ``dataset.validation``, which is needed before the data is read: papers hold nothing
    out; otherwise images that are to be better than their start are judged on what can be spared
    (null)."""
    return None if learns and not recipe else 0.0


def budget(recipe: bool, learns: bool, steps_named: bool) -> str | None:
    """Return ``budget``, which begins before the data is read: as long as a paper's steps take, or
    those that somebody names; else ``UNNAMED_BUDGET``."""
    return UNNAMED_BUDGET if learns and not (recipe or steps_named) else None


RULES: Mapping[str, Callable[[Facts], Any]] = {
    "network.depth": depth,
    "network.width": width,
    "method.real_per_class": real_per_class,
    "method.batch_real": batch_real,
    "trainer.precision": precision,
    "evaluation.precision": precision,
    "trajectories.precision": precision,
    "reference.coreset.select": coreset,
    "synthetic.factor": factor,
}
"""What the settings become that say ``auto``, by their dotted names."""

EARLY = ("budget", "dataset.validation")
"""Those that are needed before the data is read, see :func:`budget` and :func:`held_out`."""


def may_be_auto(place: str) -> bool:
    """Tell whether the setting at ``place`` may say ``auto``."""
    return place.removeprefix("teacher.") in (*RULES, *EARLY)
