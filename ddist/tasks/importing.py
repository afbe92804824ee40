"""task=import: what the field's own code wrote, as a distilled set that ddist evaluates."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import ddist
from ddist.artifact import DistilledDataset
from ddist.config import composed_apart, to_plain
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.exchange.foreign import (
    Foreign,
    read_dc,
    read_folder,
    read_idc,
    read_mtt,
    read_own,
)
from ddist.probabilities import are_probabilities
from ddist.tasks.build import build_data
from ddist.tasks.names import chosen, chosen_names

log = logging.getLogger(__name__)

FORMATS = ("dc", "mtt", "idc", "folder", "torch", "npz")
OWN = ("torch", "npz")  # what task=export wrote
NORMALIZATIONS = ("mean_std", "zca", "none")
PROTOCOLS = {"dc": "dc2021", "mtt": "mtt", "idc": "idc", "folder": "dc2021"}  # the code's own
FAR = 0.5  # beyond [0, 1]: no pixels


def run(cfg: DictConfig) -> None:
    """Reads ``cfg.path`` in ``cfg.format`` and saves it as the run's distilled set."""
    if cfg.format not in FORMATS:
        raise DdistError(f"task=import needs format={'|'.join(FORMATS)}, not {cfg.format!r}.")
    if cfg.path is None:
        raise DdistError("task=import needs the file or folder that is to be read: path=PATH.")
    path = Path(str(cfg.path)).expanduser()
    distilled = read_own(path, cfg.format) if cfg.format in OWN else convert(cfg, path)
    folder = Path(cfg.paths.run) / "distilled"
    distilled.save(folder)
    log.info("%d images: ddist task=evaluate artifact=%s", len(distilled.images), folder)


def convert(cfg: DictConfig, path: Path) -> DistilledDataset:
    """The set of another's format, completed by what the command line says of it."""
    check_asked(cfg)
    if not path.exists():
        raise DdistError(f"There is no {path}: path is what format={cfg.format} reads.")
    pixels = cfg.format in ("idc", "folder") or cfg.normalization == "none"
    if not pixels:
        cfg.dataset.normalize = cfg.normalization
    data = build_data(cfg)
    found = read(cfg, path, data)
    check_fits(found, data, path, cfg.factor)
    images = found.images
    if pixels:
        check_pixels(images, path)
        images = data.normalization(images)
    elif images.min() >= 0 and images.max() <= 1:
        log.warning("All values lie in [0, 1], as those of pixels do: normalization=none?")
    soft = found.labels.is_floating_point()
    if soft and not are_probabilities(found.labels).all():
        log.warning(
            "The labels are no probabilities: they are kept, and the nearest are trained on."
        )
    ipc = max(1, round(len(images) / data.num_classes))
    names = {**chosen_names(), "method": name_of(cfg, path)}
    complete(cfg, ipc, names)
    one_step = found.step_size is not None
    return DistilledDataset(
        images=images,
        labels=found.labels,
        weights=found.weights,
        step_sizes=torch.tensor([[found.step_size]]) if one_step else None,
        step_index=torch.zeros(len(images), dtype=torch.int64) if one_step else None,
        normalization=data.normalization.to("cpu").state(),
        meta=described(cfg, names, ipc, data, path),
        config=OmegaConf.to_yaml(cfg, resolve=True),
    )


def check_asked(cfg: DictConfig) -> None:
    """Raise a DdistError for what the file does not say and the command line should."""
    if not chosen("dataset"):
        raise DdistError("Which dataset is it made from? Say so: dataset=cifar10, for example.")
    known = cfg.format in ("idc", "folder")  # pixels
    if cfg.normalization is None and not known:
        raise DdistError(
            f"format={cfg.format} does not say in which space its images are: normalization="
            "mean_std (of the dataset, as the authors' code normalises), zca (whitened) or none "
            "(pixels in [0, 1])."
        )
    allowed = ("none",) if known else NORMALIZATIONS
    if cfg.normalization is not None and cfg.normalization not in allowed:
        raise DdistError(
            f"normalization is {', '.join(allowed)} with format={cfg.format}, not "
            f"{cfg.normalization!r}."
        )
    if cfg.factor is None and cfg.format == "idc":
        raise DdistError(
            "format=idc does not say how many images are in a stored one: factor=2 (2x2, IDC), "
            "factor=3 (its ImageNet) or factor=1 (IDC-I)."
        )
    for name, least in (("factor", 1), ("index", 0)):
        value = cfg[name]
        if value is not None and (type(value) is not int or value < least):
            raise DdistError(f"{name} is a whole number from {least}, not {value!r}.")


def read(cfg: DictConfig, path: Path, data: RealData) -> Foreign:
    match cfg.format:
        case "dc":
            return read_dc(path, cfg.index)
        case "mtt":
            return read_mtt(path)
        case "idc":
            return read_idc(path)
        case _:
            return read_folder(path, data.class_names, data.image_shape[0])


def check_fits(found: Foreign, data: RealData, path: Path, factor: int | None) -> None:
    """Raise a DdistError unless images and labels are such as the dataset's."""
    shape, labels = tuple(found.images.shape[1:]), found.labels
    if shape != tuple(data.image_shape):
        raise DdistError(
            f"{path} has images {shape} and {data.name} {tuple(data.image_shape)}: choose the "
            "dataset it was made from, or its dataset.size and dataset.channels."
        )
    if labels.is_floating_point() and labels.shape[1] != data.num_classes:
        raise DdistError(
            f"{path} has soft labels of {labels.shape[1]} classes and {data.name} has "
            f"{data.num_classes}."
        )
    if not labels.is_floating_point() and not ((labels >= 0) & (labels < data.num_classes)).all():
        raise DdistError(
            f"{path} has labels from {labels.min()} to {labels.max()}, and those of {data.name} "
            f"are 0 to {data.num_classes - 1}."
        )
    if factor is not None and any(side % factor for side in shape[1:]):
        raise DdistError(f"factor={factor} does not divide images of {shape[1]}x{shape[2]}.")


def check_pixels(images: Tensor, path: Path) -> None:
    """Raise a DdistError for values that pixels do not have."""
    if not images.isfinite().all():
        raise DdistError(f"{path} holds values that are not finite numbers.")
    low, high = float(images.min()), float(images.max())
    if low < -FAR or high > 1 + FAR:
        raise DdistError(
            f"{path} has values from {low:.2f} to {high:.2f}, which are no pixels in [0, 1]: "
            "normalization=mean_std or zca says how they were made."
        )


def name_of(cfg: DictConfig, path: Path) -> str:
    """The method: as the command line says, else as DC's code calls its file (res_DM_...)."""
    if chosen("method"):
        return chosen_names()["method"]
    told = path.stem.split("_")
    named = cfg.format == "dc" and told[0] == "res" and len(told) > 1
    return told[1].lower() if named else "imported"


def complete(cfg: DictConfig, ipc: int, names: dict[str, str]) -> None:
    """Make ``cfg`` describe the imported set: nothing of the default method's that it was not
    learned with, and the format's own protocol and network unless others were chosen."""
    usual = composed_apart(
        [f"evaluation={PROTOCOLS[cfg.format]}", "network=convnet", f"dataset={names['dataset']}"]
    )
    usual.ipc = ipc
    usual.dataset = cfg.dataset
    if not chosen("evaluation"):
        cfg.evaluation = to_plain(usual.evaluation)
    if not chosen("network"):
        cfg.network = to_plain(usual.network)
        names["network"] = "convnet"
    if not chosen("method"):
        cfg.method = {}
    cfg.ipc, cfg.steps = ipc, 0
    cfg.synthetic.factor = cfg.factor or 1


def described(
    cfg: DictConfig, names: dict[str, str], ipc: int, data: RealData, path: Path
) -> dict[str, Any]:
    return {
        **names,
        "class_names": list(data.class_names),
        "num_classes": data.num_classes,
        "image_shape": list(data.image_shape),
        "ipc": ipc,
        "factor": cfg.factor or 1,
        "uses_network": True,
        "seed": cfg.seed,
        "protocol": cfg.evaluation.name,
        "imported": {"format": cfg.format, "file": path.name},
        "versions": {"ddist": ddist.__version__, "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
