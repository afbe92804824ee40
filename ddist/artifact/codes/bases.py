"""Images stored as sums of a few shared ones (Deng & Russakovsky 2022, arXiv 2206.02916: bases that
all classes address)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.artifact.codes.base import Code, Tensors, check_room
from ddist.settings.ranges import PositiveInt


class Bases(Code):
    """x_n = up(sum_m a_nm b_m): all images, of any class, are sums of the same m bases b of 1 /
    ``shrink`` of their sides, enlarged bilinearly. They start at the m largest singular values and
    vectors of the shrunk images, with bases whose pixels have a mean square of 1.

    Args:
        shrink: by how much the sides of bases are smaller.
    """

    name = "bases"

    def __init__(self, *, shrink: PositiveInt) -> None:
        self.shrink = shrink

    def encode(self, images: Tensor, num_bytes: int, sample: Tensor) -> dict[str, Tensor]:
        height, width = (max(1, side // self.shrink) for side in images.shape[2:])
        small = F.interpolate(images, (height, width), mode="area")
        rows = small.flatten(1)
        num, size = rows.shape
        m = min(num, size, num_bytes // (images.element_size() * (size + num)))
        check_room(m, num_bytes / num)
        u, s, vh = torch.linalg.svd(rows, full_matrices=False)
        scale = size**0.5
        return {
            "weights": (u[:, :m] * s[:m] / scale).contiguous(),
            "bases": (scale * vh[:m]).view(m, *small.shape[1:]).contiguous(),
        }

    @staticmethod
    def decode(codes: Tensors, image_shape: tuple[int, ...]) -> Tensor:
        small = torch.einsum("nm,mchw->nchw", codes["weights"], codes["bases"])
        if small.shape[1:] == image_shape:
            return small
        return F.interpolate(small, image_shape[1:], mode="bilinear", align_corners=False)
