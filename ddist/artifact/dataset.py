"""The product of a run: a small folder that says by itself what it is and how to train on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ddist.artifact.card import card
from ddist.artifact.codes import Codes
from ddist.artifact.files import TENSORS, encode, located, read_folder, stored_tensors
from ddist.artifact.grid import image_grid, png
from ddist.artifact.multiformation import expand
from ddist.artifact.normalization import Normalization
from ddist.artifact.soft_labels import at_temperature, nearest_probabilities
from ddist.errors import DdistError
from ddist.storage.atomic import write_folder

REQUIRED_META: dict[str, type | tuple[type, ...]] = {
    "dataset": str,
    "method": str,
    "ipc": (int, float),
    "num_classes": int,
    "class_names": (list, tuple),
    "image_shape": (list, tuple),
}


@dataclass(eq=False, kw_only=True)
class DistilledDataset:
    """Synthetic images and all that is needed to train on them, to look at them and to say where
    they come from. Raises DdistError when the parts do not fit together.

    ``meta`` needs dataset, method, ipc, num_classes, class_names (in the order of the labels) and
    image_shape (C, H, W); the rest (network, init, seed, steps, protocol, versions, results ...)
    is kept and shown on the card. All of it must be JSON.
    """

    images: Tensor  # float32 [N, C, H, W], in training space
    labels: Tensor  # int64 [N], or float [N, K]: soft, or any numbers that regression learned
    # float16 from a teacher (meta: label_temperature, label_top_k; see ddist.teachers.labels)
    weights: Tensor | None = None  # float [N], of the samples in the loss
    step_sizes: Tensor | None = None  # float [E, S]: E epochs over S student steps
    step_index: Tensor | None = None  # int64 [N]: the student step 0..S-1 an image belongs to
    initial_weights: dict[str, Tensor] | None = None  # θ₀, where p(θ₀) is a single point
    codes: Codes | None = None  # what is stored in the place of ``images``, which are decoded
    normalization: dict[str, Tensor | str]  # see ddist.artifact.normalization
    meta: dict[str, Any]
    config: str  # YAML

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem:
            raise DdistError(f"Not a usable distilled dataset: {problem}.")

    @property
    def results(self) -> dict[str, Any]:
        """What its run measured, as in results.json; empty where nothing was evaluated."""
        return dict(self.meta.get("results", {}))

    def to_pixels(self) -> Tensor:
        """Return the images as pixels in [0, 1], float32 [N, C, H, W]; values beyond are
        clamped."""
        return self._pixels().clamp(0, 1)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return ``pixels`` [N, C, H, W], uint8 or floats from 0 to 1, as the images are: what
        networks that were trained on them have to be given."""
        return Normalization.from_state(self.normalization)(pixels)

    def as_dataset(self) -> TensorDataset:
        """Return a torch Dataset of (image, label), or (image, label, weight) where there are
        weights."""
        return TensorDataset(*[tensor for tensor in self.examples() if tensor is not None])

    def examples(
        self, mask: Tensor | None = None, *, as_learned: bool = False, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what to train on: images [M, C, H, W], labels and weights [M] or None; of the
        stored images in ``mask`` [N] or of all. M = N, but for ``factor`` ** 2 training images in
        each stored one (see :mod:`ddist.artifact.multiformation`). Soft labels that regression
        learned come as the nearest probabilities, or ``as_learned``; a teacher's as it gives them
        at ``temperature``."""
        rows = slice(None) if mask is None else mask
        images = expand(self.images[rows], self.factor)
        labels = self.labels[rows].repeat_interleave(self.factor**2, 0)
        if labels.is_floating_point() and not as_learned:
            temperature_of_labels = self.label_temperature
            labels = (
                nearest_probabilities(labels)
                if temperature_of_labels is None
                else at_temperature(labels, temperature_of_labels, temperature)
            )
        if self.weights is None:
            return images, labels, None
        return images, labels, self.weights[rows].repeat_interleave(self.factor**2)

    @property
    def factor(self) -> int:
        """Return the training images in a stored one, per side."""
        return int(self.meta.get("factor", 1))

    @property
    def stored_each(self) -> int:
        """Return the stored images for each image of pixels in whose bytes they are."""
        return int(self.meta.get("stored_each", 1))

    @property
    def label_temperature(self) -> float | None:
        """Return at which temperature a teacher gave the labels; None for labels that none gave."""
        value = self.meta.get("label_temperature") if self.labels.is_floating_point() else None
        return None if value is None else float(value)

    def replay(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (images, labels, step size) of each student step, in the order that was learned."""
        if self.step_sizes is None:
            raise DdistError(
                f"The method {self.meta['method']!r} learned no step sizes to replay: train on "
                "as_dataset() instead."
            )
        assert self.step_index is not None
        for epoch in self.step_sizes:
            for step, step_size in enumerate(epoch):
                images, labels, _ = self.examples(self.step_index == step)
                yield images, labels, step_size

    @property
    def num_bytes(self) -> int:
        """Return the bytes of what was distilled: images, labels, weights and steps. Neither θ₀ nor
        the normalisation counts: they are the same for every set made from this dataset and
        seed."""
        tensors = stored_tensors(self._tensors(), self.meta, self.codes)
        return sum(tensor.nbytes for tensor in tensors.values() if tensor is not None)

    def save(self, path: str | Path) -> Path:
        """Write the folder ``path``, all of it or nothing; an earlier artifact is replaced."""
        people = {"grid.png": self.picture(), "README.md": card(self).encode()}
        write_folder(Path(path), {**self.files(), **people})
        return Path(path)

    def files(self) -> dict[str, bytes]:
        """Return the files that :meth:`load` needs, by name."""
        meta = {**self.meta, "bytes": self.num_bytes}
        stored = stored_tensors(self._tensors(), meta, self.codes)
        if self.codes is not None:
            meta["code"] = {"kind": self.codes.kind, "mirror": self.codes.mirror}
        return encode(stored, self.initial_weights, self.normalization, meta, self.config)

    def _tensors(self) -> dict[str, Tensor | None]:
        return {name: getattr(self, name) for name in TENSORS}

    @classmethod
    def load(cls, path: str | Path) -> "DistilledDataset":
        """Read what :meth:`save` wrote, onto the CPU, or the ready-made set of that name (``ddist
        task=sets``). Raises DdistError for anything else."""
        path = Path(path)
        try:
            return cls(**read_folder(located(path)))
        except DdistError as error:
            raise DdistError(f"Could not load {path}: {error}") from None

    def _pixels(self) -> Tensor:
        normalization = Normalization.from_state(self.normalization).to(self.images.device)
        return normalization.inverse(self.images.detach())

    def picture(self) -> bytes:
        """Draw all images on one picture, a PNG file."""
        m = self.meta
        count, each = m["ipc"], self.stored_each
        number = f"{count * each} in the bytes of {count}" if each > 1 else str(count)
        title = f"{m['dataset']} · {m['method']} · {number} per class"
        return png(
            image_grid(self._pixels(), self.labels, m["class_names"], self.step_index, title=title)
        )

    def _problems(self) -> Iterator[str]:
        for name, types in REQUIRED_META.items():
            if not isinstance(self.meta.get(name), types):
                yield f"meta needs {name!r}, got {self.meta.get(name)!r}"
        num_classes, names = self.meta["num_classes"], self.meta["class_names"]
        if len(names) != num_classes or not all(isinstance(name, str) for name in names):
            yield f"expected {num_classes} class names, got {len(names)} ({names})"
        shape, labels, count = tuple(self.images.shape), self.labels, len(self.images)
        expected = tuple(self.meta["image_shape"])
        if self.images.dtype != torch.float32 or shape[1:] != expected or count == 0:
            dims = ", ".join(map(str, ("N", *expected)))
            yield f"expected float32 images [{dims}], got {self.images.dtype} {list(shape)}"
        soft = labels.is_floating_point() and labels.shape == (count, num_classes)
        if not soft and not (labels.dtype == torch.int64 and labels.shape == (count,)):
            yield (
                f"expected labels int64 [{count}] or float [{count}, {num_classes}], "
                f"got {labels.dtype} {list(labels.shape)}"
            )
        if not soft and not ((labels >= 0) & (labels < num_classes)).all():
            yield f"expected labels in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}"
        t, k = self.meta.get("label_temperature"), self.meta.get("label_top_k")
        if t is not None and not (isinstance(t, (int, float)) and t > 0):
            yield f"expected a label_temperature above 0, got {t!r}"
        if k is not None and not (isinstance(k, int) and 0 < k < num_classes):
            yield f"expected a label_top_k between 1 and {num_classes - 1}, got {k!r}"
        if self.weights is not None and self.weights.shape != (count,):
            yield f"expected weights [{count}], got {list(self.weights.shape)}"
        yield from self._step_problems(count)
        for name in TENSORS:
            value = getattr(self, name)
            if value is not None and not value.isfinite().all():
                yield f"{name} holds values that are not finite numbers"

    def _step_problems(self, count: int) -> Iterator[str]:
        sizes, index = self.step_sizes, self.step_index
        if index is not None and (index.dtype != torch.int64 or index.shape != (count,)):
            yield f"expected step_index int64 [{count}], got {index.dtype} {list(index.shape)}"
        if sizes is None:
            return
        if index is None or sizes.ndim != 2:
            yield f"expected step_sizes [E, S] beside a step_index, got {list(sizes.shape)}"
        elif set(index.tolist()) != set(range(sizes.shape[1])):
            yield f"step_index must name each of the {sizes.shape[1]} steps of step_sizes"
