"""Labels that a teacher gives a distilled set once and for all, kept in its artifact."""

from dataclasses import replace

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.soft_labels import keep_top, restore_top
from ddist.errors import DdistError
from ddist.teachers.base import Teacher


def with_labels(
    distilled: DistilledDataset, teacher: Teacher, temperature: float, top_k: int | None
) -> DistilledDataset:
    """Return the set with softmax(logits of ``teacher`` / ``temperature``) as labels, float16
    [N, K]: the ``top_k`` largest are kept and the others share the rest evenly; None keeps all. The
    meta says ``label_temperature`` and ``label_top_k``.

    Raises:
        DdistError: see :func:`check_stored`.
    """
    num_classes = distilled.meta["num_classes"]
    check_stored(top_k, num_classes, distilled.factor)
    images = distilled.images.to(teacher.source.device)
    labels = teacher.probabilities(images, temperature).cpu().half()
    meta = {**distilled.meta, "label_temperature": float(temperature)}
    if top_k is not None:
        labels = restore_top(*keep_top(labels, top_k), num_classes)
        meta["label_top_k"] = top_k
    return replace(distilled, labels=labels, meta=meta)


def check_stored(top_k: int | None, num_classes: int, factor: int) -> None:
    """Raise a DdistError if ``top_k`` is not below the number of classes, or if a stored image
    holds ``factor`` x ``factor`` training images, each of which needs a label."""
    if top_k is not None and top_k >= num_classes:
        raise DdistError(
            f"teacher.top_k is null or at most {num_classes - 1} of {num_classes} classes, not "
            f"{top_k!r}."
        )
    if factor > 1:
        raise DdistError(
            f"A teacher labels whole images, not {factor}x{factor} in each: set "
            "teacher.store=false, or synthetic=pixel."
        )
