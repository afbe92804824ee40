"""Images stored as a few coefficients of their cosine transform (FreD, Shin, Shin & Moon 2023,
arXiv 2311.08819)."""

from math import pi, prod, sqrt

import torch
from torch import Tensor

from ddist.artifact.codes.base import Code, Tensors, check_room


class Frequency(Code):
    """Each channel x = D_H^T F D_W with the orthonormal DCT-II D of :func:`cosines`, where F is
    zero but at k places (channel, row, column), whose mean square among real images is largest.

    The places are the same for all images, and are stored once.
    """

    name = "frequency"

    def encode(self, images: Tensor, num_bytes: int, sample: Tensor) -> dict[str, Tensor]:
        num, size = len(images), images[0].numel()
        integers = torch.int16 if size <= torch.iinfo(torch.int16).max + 1 else torch.int32
        k = min(size, num_bytes // (images.element_size() * num + integers.itemsize))
        check_room(k, num_bytes / num)
        energy = spectrum(sample).square().mean(0).flatten()
        places = energy.topk(k).indices.sort().values
        return {
            "coefficients": spectrum(images).flatten(1)[:, places].contiguous(),
            "places": places.to(integers),
        }

    @staticmethod
    def decode(codes: Tensors, image_shape: tuple[int, ...]) -> Tensor:
        coefficients, places = codes["coefficients"], codes["places"].long()
        num, (_, height, width) = len(coefficients), image_shape
        f = coefficients.new_zeros(num, prod(image_shape)).index_copy(1, places, coefficients)
        rows, columns = (cosines(side).to(f) for side in (height, width))
        return torch.matmul(rows.T, f.view(num, *image_shape)).matmul(columns)


def spectrum(images: Tensor) -> Tensor:
    """Return D_H x D_W^T of each channel of ``images`` [N, C, H, W]."""
    rows, columns = (cosines(side).to(images) for side in images.shape[2:])
    return torch.matmul(rows, images).matmul(columns.T)


def cosines(n: int) -> Tensor:
    """Return D [n, n], float64: D_uj = c_u cos(pi u (j + 1/2) / n), c_0 = sqrt(1/n), else
    sqrt(2/n)."""
    places = torch.arange(n, dtype=torch.float64)
    d = torch.cos(pi / n * torch.outer(places, places + 0.5)) * sqrt(2 / n)
    d[0] /= sqrt(2)
    return d
