"""Images stored as products of two thin matrices (Yang et al. 2023, "An efficient dataset
condensation plugin and its application to continual learning")."""

import torch
from torch import Tensor

from ddist.artifact.codes.base import Code, Tensors, check_room

_LEAST = 1e-3  # singular value: both factors of a constant channel would be zero, and stay so


class LowRank(Code):
    """Each channel x = A B of rank r, A [H, r] and B [r, W]: r (H + W) numbers in the place of H W.
    They start as the r largest singular values and vectors of x, halved between A and B."""

    name = "lowrank"

    def encode(self, images: Tensor, num_bytes: int, sample: Tensor) -> dict[str, Tensor]:
        num, channels, height, width = images.shape
        of_one = images.element_size() * num * channels * (height + width)
        rank = min(height, width, num_bytes // of_one)
        check_room(rank, num_bytes / num)
        u, s, vh = torch.linalg.svd(images, full_matrices=False)
        root = s[..., :rank].clamp_min(_LEAST).sqrt()
        return {
            "left": (u[..., :rank] * root[..., None, :]).contiguous(),
            "right": (root[..., :, None] * vh[..., :rank, :]).contiguous(),
        }

    @staticmethod
    def decode(codes: Tensors, image_shape: tuple[int, ...]) -> Tensor:
        return codes["left"] @ codes["right"]
