"""An earlier distilled set, also of another method, as the start of a new one."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.normalization import Normalization
from ddist.artifact.soft_labels import nearest_probabilities
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.synthetic.steps import spread_over_steps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """The parts taken of an earlier set, in the order of the new one's images."""

    folder: Path
    images: Tensor  # as they are stored, [N, C, H, W] in the new set's training space
    labels: Tensor | None  # float [N, K]: probabilities or, of regression, any numbers
    step_sizes: Tensor | None  # [E, S]


def read_earlier(folder: Path, data: RealData, class_labels: Tensor, factor: int) -> Earlier:
    """Read the set in ``folder`` (or its ``distilled``) for images of the classes ``class_labels``
    [N] that hold ``factor`` x ``factor`` training images each.

    Raises:
        DdistError: there is no set, or it has other classes, images or numbers of them.
    """
    inner = folder / "distilled"
    earlier_set = DistilledDataset.load(inner if inner.is_dir() else folder)
    check_fits(earlier_set, folder, data, class_labels, factor)
    classes, wanted = classes_of(earlier_set), class_labels.cpu()
    # The k-th image of a class becomes the k-th of that class, whatever the order of the classes.
    rows = torch.empty_like(wanted)
    rows[torch.argsort(wanted, stable=True)] = torch.argsort(classes, stable=True)
    had = Normalization.from_state(earlier_set.normalization)
    images = earlier_set.images
    if not same_space(had, data.normalization):
        images = data.normalization.to("cpu")(had.inverse(images))
    numbers = earlier_set.labels.is_floating_point() and earlier_set.label_temperature is None
    return Earlier(
        folder,
        images[rows].to(data.device),
        earlier_set.labels[rows].float().to(data.device) if numbers else None,
        earlier_set.step_sizes,
    )


def check_fits(
    earlier: DistilledDataset, folder: Path, data: RealData, class_labels: Tensor, factor: int
) -> None:
    """Raise a DdistError unless the set has the classes, the shape and the number of images."""
    shape, names = tuple(earlier.meta["image_shape"]), list(earlier.meta["class_names"])
    if (shape, names) != (tuple(data.image_shape), list(data.class_names)):
        raise DdistError(
            f"synthetic.start={folder} has images {shape} of {len(names)} classes, but {data.name} "
            f"has {tuple(data.image_shape)} of {data.num_classes} (or names or orders them "
            "otherwise): choose a set of this dataset."
        )
    if earlier.factor != factor:
        raise DdistError(
            f"synthetic.start={folder} has {earlier.factor}x{earlier.factor} training images in "
            f"each stored one, but this run {factor}x{factor}: set "
            f"synthetic.factor={earlier.factor}."
        )
    counts = torch.bincount(classes_of(earlier), minlength=data.num_classes)
    wanted = torch.bincount(class_labels.cpu(), minlength=data.num_classes)
    if not torch.equal(counts, wanted):
        raise DdistError(
            f"synthetic.start={folder} has {numbers_of(counts)} images per class, but this run "
            f"{numbers_of(wanted)}: set ipc={earlier.meta['ipc']}, or choose another set."
        )


def numbers_of(counts: Tensor) -> str:
    """Format the counts as ``10``, or as ``9 to 10`` where classes differ."""
    least, most = int(counts.min()), int(counts.max())
    return str(least) if least == most else f"{least} to {most}"


def same_space(a: Normalization, b: Normalization) -> bool:
    """Tell whether two normalisations are the same to the last bit."""
    one, other = a.to("cpu").state(), b.to("cpu").state()
    return one.keys() == other.keys() and all(
        torch.equal(value, twin) if isinstance(value, Tensor) and isinstance(twin, Tensor)
        else value == twin
        for value, twin in ((value, other[key]) for key, value in one.items())
    )  # fmt: skip


def classes_of(distilled: DistilledDataset) -> Tensor:
    """Return the class int64 [N] of each image. Soft labels and those of an objective need not show
    it: then it follows from how methods order images or, failing that, is the likeliest."""
    if not distilled.labels.is_floating_point() and "objective" not in distilled.meta:
        return distilled.labels
    steps = 1 if distilled.step_index is None else int(distilled.step_index.max()) + 1
    ipc = distilled.meta.get("images_per_class", distilled.meta["ipc"])
    spread, _ = spread_over_steps(ipc, distilled.meta["num_classes"], steps)
    classes = spread.repeat_interleave(distilled.stored_each)
    if len(classes) == len(distilled.labels):
        return classes
    return distilled.labels.argmax(1) if distilled.labels.ndim > 1 else distilled.labels


def soft_logits(labels: Tensor) -> Tensor:
    """Return logits [N, K] whose softmax is the probabilities nearest to ``labels`` [N, K]."""
    return nearest_probabilities(labels).clamp(min=1e-6).log()


def say_taken(earlier: Earlier, labels: bool, step_sizes: bool) -> None:
    """Log in one line which parts of the earlier set the new one starts from."""
    taken = ["images", *["labels"] * labels, *["step sizes"] * step_sizes]
    left = ["labels"] * (earlier.labels is not None and not labels)
    left += ["step sizes"] * (earlier.step_sizes is not None and not step_sizes)
    log.info(
        "Starting from the %s of %s%s.",
        " and ".join(taken),
        earlier.folder,
        f"; its {' and '.join(left)} do not fit this run's" if left else "",
    )
