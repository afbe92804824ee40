"""How images are stored in fewer bytes than their pixels take: one file for each kind of code."""

from torch import Tensor

from ddist.artifact.codes.base import Code, Codes, with_mirrors
from ddist.artifact.codes.bases import Bases
from ddist.artifact.codes.field import Field
from ddist.artifact.codes.frequency import Frequency
from ddist.artifact.codes.lowrank import LowRank
from ddist.artifact.codes.pixels import Pixels
from ddist.errors import DdistError

__all__ = [
    "KINDS", "Bases", "Code", "Codes", "Field", "Frequency", "LowRank", "Pixels", "images_of",
]  # fmt: skip

KINDS: dict[str, type[Code]] = {
    kind.name: kind for kind in (Bases, Field, Frequency, LowRank, Pixels)
}


def images_of(codes: Codes, image_shape: tuple[int, ...]) -> Tensor:
    """Return the images [N, C, H, W] in training space. Raises DdistError for tensors that no code
    of ddist has made."""
    if codes.kind not in KINDS:
        raise DdistError(f"its images are stored as {codes.kind!r}, which this ddist cannot read.")
    try:
        images = KINDS[codes.kind].decode(codes.tensors, image_shape)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:
        raise DdistError(f"its code ({codes.kind}) is of no images {image_shape}.") from error
    return with_mirrors(images, codes.mirror)
