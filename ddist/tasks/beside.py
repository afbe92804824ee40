"""What a set is shown beside: random real images, chosen ones, all of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, Row
from ddist.init import InitialWeights
from ddist.objectives import Objective
from ddist.seeding import generator
from ddist.synthetic.earlier import classes_of
from ddist.synthetic.start import start_images
from ddist.tasks.build import build_method
from ddist.tasks.config import read_option, to_plain, with_settings
from ddist.tasks.rows import KeptRows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """Real ``images`` [N, C, H, W], class by class, and the method that chose them."""

    method: str
    images: Tensor


def named_rows(name: str, rows: list[Row]) -> dict[str, Row]:
    """Return the rows of a baseline: ``name``, and ``name:network`` for further networks."""
    names = [name, *(f"{name}:{row.network}" for row in rows[1:])]
    return dict(zip(names, rows, strict=False))


def real_sets(
    seed: int,
    distilled: DistilledDataset,
    data: RealData,
    evaluator: Evaluator,
    chosen: Chosen | None,
    *,
    baseline: bool,
    starts: Sequence[str] = (),
) -> dict[str, DistilledDataset]:
    """Return as many images of pixels as the distilled bytes hold, by the names of their rows: the
    ``chosen`` real ones and, with ``baseline``, random ones, what the protocol chooses, and those
    of the ``starts``."""
    sets, distilled = {}, as_pixels(distilled)
    if baseline:
        sets["random"] = random_real(distilled, data, seed, evaluator.objective)
        sets |= chosen_by_protocol(distilled, data, evaluator)
        objective = evaluator.objective
        sets |= {name: of_start(name, name, distilled, data, seed, objective) for name in starts}
    if chosen is not None:
        sets["coreset"] = chosen_real(distilled, chosen)
    return sets


def random_real(
    distilled: DistilledDataset, data: RealData, seed: int, objective: Objective | None = None
) -> DistilledDataset:
    """Draw random real images of the same classes in the same steps: what distilling has to
    beat."""
    distilled = as_pixels(distilled)
    say_repeated(data, classes_of(distilled))
    return of_start("random", "real", distilled, data, seed, objective)


def as_pixels(distilled: DistilledDataset) -> DistilledDataset:
    """Return the first of the images in the bytes of each image of pixels: the places that real
    images may take."""
    each = distilled.stored_each
    if each == 1:
        return distilled
    names = ("images", "labels", "weights", "step_index")
    tensors = {name: getattr(distilled, name) for name in names}
    first = {k: v[::each].contiguous() for k, v in tensors.items() if v is not None}
    return replace(
        distilled,
        **first,
        codes=None,
        meta={**distilled.meta, "stored_each": 1},
    )


def of_start(
    name: str,
    start: str,
    distilled: DistilledDataset,
    data: RealData,
    seed: int,
    objective: Objective | None,
) -> DistilledDataset:
    """Return the images of a ``start`` (see :mod:`ddist.synthetic.start`) of the same classes in
    the same steps, of the method ``name``. With an ``objective``, order the classes as methods do
    and label the images as it wants."""
    soft = distilled.labels.ndim > 1
    labels = classes_of(distilled) if soft or objective is not None else distilled.labels
    images = start_images(start, data, labels, generator(seed, "baseline"))
    if objective is not None:
        labels = objective.targets(labels)
    return real_set(name, distilled, images, labels)


def chosen_real(distilled: DistilledDataset, chosen: Chosen) -> DistilledDataset:
    """Return the ``chosen`` images in the places of the distilled ones of the same classes."""
    classes = classes_of(distilled).cpu()
    images = torch.empty_like(chosen.images, device="cpu")
    images[classes.argsort(stable=True)] = chosen.images.cpu()
    return real_set(chosen.method, distilled, images, classes)


def chosen_by_protocol(
    distilled: DistilledDataset, data: RealData, evaluator: Evaluator
) -> dict[str, DistilledDataset]:
    """Return the real images that the protocol chooses, as many of each class as are distilled, by
    the names of the choices."""
    counts = torch.bincount(classes_of(distilled).cpu(), minlength=data.num_classes)
    return {
        name: chosen_real(distilled, Chosen(name, data.images(rows.to(data.device))))
        for name, rows in evaluator.choices(data, counts.tolist()).items()
    }


def coreset(cfg: DictConfig, data: RealData, init: InitialWeights) -> Chosen | None:
    """Choose as many real images as the set of ``cfg`` has, as ``reference.coreset`` says, in
    the order of the classes; None where it says nothing, or the network has no features."""
    settings = cfg.reference.coreset
    if settings.select is None:
        return None
    try:
        selection = build_method(choosing(cfg), candidates(cfg, data), init)
    except DdistError as error:
        log.warning("No chosen real images beside the distilled ones: %s", error)
        return None
    return Chosen(settings.select, selection.tensors()["images"])


def choosing(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with the method that chooses as ``reference.coreset`` says."""
    settings = cfg.reference.coreset
    own = selecting(cfg, settings.select)
    own.method.embedding.epochs = settings.epochs
    own.method.train_per_class = None
    return own


def candidates(cfg: DictConfig, data: RealData) -> RealData:
    """Return the data that ``reference.coreset`` chooses from."""
    most = cfg.reference.coreset.per_class
    return data if max(data.train.counts) <= most else data.limited(most, "coreset")


def selecting(cfg: DictConfig, name: str) -> DictConfig:
    """Return ``cfg`` with the method ``name``, which chooses images, in the place of its own."""
    method = to_plain(read_option("method", name), resolve=False)
    synthetic = {**read_option("synthetic", "pixel"), "scarce": cfg.synthetic.scarce}
    augment = read_option("augment", "none")
    return with_settings(cfg, {"method": method, "synthetic": synthetic, "augment": augment})


def real_set(
    name: str, distilled: DistilledDataset, images: Tensor, labels: Tensor
) -> DistilledDataset:
    """Return ``images`` in the place of the distilled ones, of the method ``name``."""
    epochs = None if distilled.step_sizes is None else len(distilled.step_sizes)
    return DistilledDataset(
        images=images.cpu(),
        labels=labels,
        step_index=distilled.step_index,
        normalization=distilled.normalization,
        meta={**distilled.meta, "method": name, "student_epochs": epochs, "factor": 1},
        config="",
    )


def all_images(kept: KeptRows, data: RealData) -> dict[str, dict[str, Any]]:
    """Return the protocol's rows of all training images, if it has any, by their names."""
    evaluator = kept.evaluator
    if not evaluator.protocol.takes_all_images:
        return {}
    rows = [
        kept.once(f"all_images {network}", partial(evaluator.row_on_all_images, network, data))
        for network in evaluator.tested
    ]
    return {key: row.to_dict() for key, row in named_rows("full_probe", rows).items()}


def say_repeated(data: RealData, labels: Tensor) -> None:
    """Log a line where a class has fewer images than ``labels`` asks for: then each stands in the
    baseline several times, so that it has as many images and steps as what it is compared with."""
    asked = torch.bincount(labels.cpu(), minlength=data.num_classes).tolist()
    names = [
        f"{name} ({count} for {most})"
        for name, most, count in zip(data.class_names, asked, data.train.counts, strict=True)
        if most > count
    ]
    if names:
        log.info(
            "Random real images are repeated in classes that have too few: %s.", ", ".join(names)
        )
