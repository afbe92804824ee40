"""Dataset Distillation as Pushforward Optimal Quantization (Tan & Slade 2026, arXiv 2501.07681),
and with other settings D4M (Su et al. 2024, arXiv 2407.15138)."""

import logging
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor

from ddist.data.whitening import hash_tensors
from ddist.generative import Latents, Pair
from ddist.generative.quantization import cells, clvq, sample, transport_error
from ddist.methods.base import Method
from ddist.methods.selection import refuse_tiles
from ddist.seeding import derive, generator
from ddist.settings.ranges import PositiveInt
from ddist.stages.progress import SHORT, Progress
from ddist.stages.stopping import keeping
from ddist.storage.cache import cached_tensors
from ddist.storage.signature import signature
from ddist.synthetic import SyntheticData
from ddist.synthetic.start import check_enough

log = logging.getLogger(__name__)

ASSIGNED_AT_ONCE = 4096
"""Latents whose distances to all centroids are held."""

TRANSPORTED = 1000
"""Latents of a class that the exact transport to uniform weights is computed for."""


class DDOQ(Method):
    """The class's latents E(x), quantized by K points z_k with their Voronoi masses w_k, and the
    points decoded:

        min over z_1 .. z_K of E_x min_k |E(x) - z_k|^2,  w_k = P(E(x) nearest to z_k),
        min over theta of sum_k w_k loss(D(z_k), y)  (of whoever trains on the set)

    (the paper's Algorithm 1). Uniform weights, one pass of k-means with restarted centroids and the
    batches of its authors make it D4M. Nothing is learned by gradient.

    Args:
        ipc: K.
        generative: E and D.
        weights: "mass" (w_k), "sqrt" (of w_k: the paper's experiments) or "uniform"; scaled to mean
            1 in each class, so that learning rates keep their meaning.
        decode: "decoder" (D) or "medoid": the real image of the cell that is nearest to z_k.
        passes, batch_size, start_size, reassignment: of
            :func:`ddist.generative.quantization.clvq`.
    """

    learns = False
    uses_network = False

    def __init__(
        self,
        *,
        ipc: int,
        generative: Pair,
        weights: Literal["mass", "sqrt", "uniform"],
        decode: Literal["decoder", "medoid"],
        passes: PositiveInt,
        batch_size: PositiveInt,
        start_size: PositiveInt,
        reassignment: Annotated[float, Ge(0), Lt(1)],
        synthetic: partial[SyntheticData],
        **common: Any,
    ) -> None:
        super().__init__(ipc=ipc, synthetic=partial(synthetic, start="noise"), **common)
        # A point for each image at most.
        check_enough(self.data, self.synthetic.classes, " or synthetic.scarce=fewer")
        refuse_tiles(self.synthetic)
        self.generative = generative
        self.clustering: dict[str, Any] = {
            "passes": passes,
            "batch_size": batch_size,
            "start_size": start_size,
            "reassignment": reassignment,
        }
        generative.prepare(self.data, self.seed)
        self.latents = Latents(self.data, generative)
        self.latents.prepare()
        log.info("Quantizing %d classes by %d points each.", self.data.num_classes, ipc)
        with Progress("clustering", "classes", self.data.num_classes, quiet=SHORT) as progress:
            self.quantization = [self.quantized(c, progress) for c in range(self.data.num_classes)]
        self.weights = None
        if weights != "uniform":
            counts = [quantized["counts"] for quantized in self.quantization]
            self.weights = torch.cat([sample_weights(of_class, weights) for of_class in counts])
        images = self.medoids() if decode == "medoid" else self.decoded()
        with torch.no_grad():
            self.synthetic.begin(images=images)

    def quantized(self, c: int, progress: Progress) -> dict[str, Tensor]:
        """Quantize class ``c``. Return, kept beside the latents, the ``centroids`` [K, D], the
        numbers ``counts`` [K] of latents in their cells, the row ``nearest`` [K] to each, and the
        squared W2 distances between the latents and the centroids weighted by mass, ``error``, and
        uniformly, ``error_uniform`` (of a sample of the latents)."""
        rows, ipc = self.latents.of_class(c), self.images_per_class[c]
        key = signature({"k": ipc, "seed": self.seed, **self.clustering})

        def compute() -> dict[str, Tensor]:
            rng = np.random.RandomState(derive(self.seed, "quantize", c) % 2**32)
            centroids = clvq(rows, ipc, **self.clustering, rng=rng)
            assigned = cells(rows, centroids, ASSIGNED_AT_ONCE)
            uniform = transport_error(sample(rows, ipc, TRANSPORTED, rng), centroids)
            return {
                "centroids": torch.from_numpy(centroids),
                "counts": torch.from_numpy(assigned.counts),
                "nearest": torch.from_numpy(assigned.nearest),
                "error": torch.tensor(assigned.error, dtype=torch.float64),
                "error_uniform": torch.tensor(uniform, dtype=torch.float64),
            }

        def kept() -> str:
            num, folder = self.data.num_classes, self.latents.folder
            return (
                f"{c} of {num} classes are clustered and kept in {folder}, and the same command "
                "does the rest"
            )

        with keeping(kept):
            path = self.latents.folder / key / f"{c:04d}.safetensors"
            tensors = cached_tensors(path, compute)
        progress.to(c + 1)
        return tensors

    def medoids(self) -> Tensor:
        """Return the real images [N, C, H, W] nearest to the centroids."""
        starts = self.data.train.offsets[:-1]
        nearest = [
            start + quantized["nearest"]
            for start, quantized in zip(starts, self.quantization, strict=True)
        ]
        return self.data.images(torch.cat(nearest))

    def decoded(self) -> Tensor:
        """Decode the centroids to images [N, C, H, W] in training space."""
        centroids = [quantized["centroids"] for quantized in self.quantization]
        latents = torch.cat(centroids).to(self.data.device)
        latents = latents.view(-1, *self.generative.latent_shape)
        classes = self.synthetic.classes.to(self.data.device)
        size = self.generative.images_at_once
        batches = list(zip(latents.split(size), classes.split(size), strict=True))
        log.info("Decoding %d points (%s).", len(latents), self.generative)
        pixels = []
        with Progress("decoding", "batches", len(batches), quiet=SHORT) as progress:
            for number, (z, y) in enumerate(batches):
                pixels.append(self.kept(number, z, y).to(self.data.device))
                progress.to(number + 1)
        return self.data.normalization(torch.cat(pixels))

    def kept(self, number: int, latents: Tensor, classes: Tensor) -> Tensor:
        """Decode batch ``number``: ``latents`` of ``classes`` int64 [N], to images [N, C, H, W] in
        [0, 1]. Where decoding is slow they are kept beside the latents, complete or absent, so that
        a run that was killed goes on with the next batch."""

        def decode() -> dict[str, Tensor]:
            stream = generator(self.seed, "decode", number)
            return {"pixels": self.generative.decode(latents, classes, stream).clamp(0, 1)}

        if not self.generative.slow:
            return decode()["pixels"]
        settings = {
            "decoding": self.generative.decoding,
            "points": hash_tensors(latents, classes),
            "stream": [self.seed, number],
        }
        file = self.latents.folder / "decoded" / f"{signature(settings)}.safetensors"
        return cached_tensors(file, decode)["pixels"]

    def tensors(self) -> dict[str, Any]:
        return {**super().tensors(), "weights": self.weights}

    def figures(self) -> dict[str, float]:
        """Return the latent quantization error, as the mean over the classes."""
        return {
            f"quantization_{name}": float(
                torch.stack([quantized[name] for quantized in self.quantization]).mean()
            )
            for name in ("error", "error_uniform")
        }


def sample_weights(counts: Tensor, kind: str) -> Tensor:
    """Return float weights [..., K] of points whose cells hold ``counts`` [..., K], in proportion
    to these ("mass") or to their roots ("sqrt"), with mean 1 over the last dimension."""
    w = counts.double() if kind == "mass" else counts.double().sqrt()
    return (w / w.mean(-1, keepdim=True)).float()
