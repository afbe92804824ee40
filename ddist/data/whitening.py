"""ZCA whitening as MTT and its successors use it: kornia's definition, in bounded memory.

``kornia.enhance.ZCAWhitening(eps=0.1, compute_inv=True)`` fitted on the raw training pixels in
[0, 1]: with the covariance C = U S U^T (unbiased) of the flattened images, whiten =
U (S + eps)^-1/2 U^T. Kornia holds all images as floats at once; here the covariance is added up in
float64 chunk by chunk, and the matrices are cached by the hash of the images.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from ddist.artifact.normalization import Zca
from ddist.data.ondisk import Images, parts
from ddist.errors import DdistError
from ddist.storage.cache import cached_tensors

EPS = 0.1
CHUNK = 4096  # images held as float64 at a time


def fit_zca(x: Images) -> dict[str, Tensor]:
    """Return ``mean`` [D] and ``whiten`` [D, D], float32, of uint8 images ``x`` [N, C, H, W]."""
    if len(x) < 2:
        raise DdistError(f"ZCA needs at least 2 training images, got {len(x)}.")
    sums = [chunk.flatten(1).double().sum(0) for chunk in parts(x, CHUNK)]
    mean = torch.stack(sums).sum(0) / len(x) / 255
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=x.device)
    for chunk in parts(x, CHUNK):
        centred = chunk.flatten(1).double() / 255 - mean
        covariance.addmm_(centred.T, centred)
    values, vectors = torch.linalg.eigh(covariance / (len(x) - 1))
    # The smallest eigenvalues of a singular covariance come out as -1e-17.
    whiten = (vectors * (values.clamp_min(0) + EPS).rsqrt()) @ vectors.T
    return {"mean": mean.float(), "whiten": whiten.float()}


def cached_zca(x: Images, cache: Path) -> Zca:
    """Return the whitening of the training images ``x``, from ``cache``/zca if it is there."""
    path = cache / "zca" / f"{hash_tensors(x)}.safetensors"
    return Zca(**cached_tensors(path, lambda: fit_zca(x)))


def hash_tensors(*tensors: Images) -> str:
    """Return 16 hex digits of the tensors' shapes, types and bytes, on whatever device they are."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        for chunk in [tensor] if isinstance(tensor, Tensor) else parts(tensor):
            digest.update(chunk.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
