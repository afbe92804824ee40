"""task=import: what the field's own code wrote, as a distilled set that ddist evaluates."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

import ddist
from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.soft_labels import are_probabilities
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.exchange.buffers import import_experts
from ddist.exchange.fits import check_fits, check_pixels, images_per_class
from ddist.exchange.foreign import (
    Foreign,
    read_dc,
    read_dd,
    read_folder,
    read_idc,
    read_mtt,
    read_own,
)
from ddist.exchange.tensors import read_tensors
from ddist.tasks.adapt import adapted
from ddist.tasks.build import read_data
from ddist.tasks.config import composed_apart, to_plain
from ddist.tasks.names import chosen, chosen_names, named
from ddist.tasks.networks import build_network

log = logging.getLogger(__name__)

FORMATS = ("dc", "mtt", "idc", "dd", "tensors", "folder", "torch", "npz", "experts")
OWN = ("torch", "npz")  # what task=export wrote
PROTOCOLS = {"dc": "dc2021", "mtt": "mtt", "idc": "idc", "dd": "replay"}  # the code's own
ASSUMED = {"dd": "mean_std", "experts": "mean_std"}  # what the code has unless told otherwise


def run(cfg: DictConfig) -> None:
    """Read ``cfg.path`` in ``cfg.format`` and save it as the run's distilled set or experts."""
    if cfg.format not in FORMATS:
        raise DdistError(f"task=import needs format={'|'.join(FORMATS)}, not {cfg.format!r}.")
    if cfg.path is None:
        raise DdistError("task=import needs the file or folder that is to be read: path=PATH.")
    path = paths_of(cfg.path)[0]
    if cfg.format == "experts":
        import_experts_of(cfg, path)
        return
    distilled = read_own(path, cfg.format) if cfg.format in OWN else convert(cfg, path)
    folder = Path(cfg.paths.run) / "distilled"
    distilled.save(folder)
    log.info("%d images: ddist task=evaluate artifact=%s", len(distilled.images), folder)


def convert(cfg: DictConfig, path: Path) -> DistilledDataset:
    """Return the set at ``path`` in another program's format, completed by the command line."""
    cfg = assumed(cfg)
    check_asked(cfg)
    if not path.exists():
        raise DdistError(f"There is no {path}: path is what format={cfg.format} reads.")
    pixels = cfg.format in ("idc", "folder") or cfg.normalization == "none"
    cfg, data = read_data(cfg)
    foreign = read(cfg, path, data)
    if cfg.normalization is None and not (pixels or foreign.pixels):
        raise unsaid(cfg.format)
    pixels = pixels or foreign.pixels
    if foreign.pixels and cfg.normalization not in (None, "none"):
        raise DdistError(f"{path} has pixels of 8 bits: normalization=none.")
    check_fits(foreign, data, path, cfg.factor)
    images = foreign.images
    if pixels:
        check_pixels(images, path)
        images = data.normalization(images)
    elif images.min() >= 0 and images.max() <= 1:
        log.warning("All values lie in [0, 1], as those of pixels do: normalization=none?")
    soft = foreign.labels.is_floating_point()
    if soft and not are_probabilities(foreign.labels).all():
        log.warning(
            "The labels are no probabilities: they are kept, and the nearest are trained on."
        )
    ipc = images_per_class(
        foreign.labels, data.num_classes, path, cfg.ipc if chosen("ipc") else None
    )
    names = {**chosen_names(), "method": name_of(cfg, path)}
    if not chosen("network"):
        names["network"] = "convnet"
    cfg = adapted(completed(cfg, ipc), data)
    return DistilledDataset(
        images=images,
        labels=foreign.labels,
        weights=foreign.weights,
        step_sizes=foreign.step_sizes,
        step_index=foreign.step_index,
        normalization=data.normalization.to("cpu").state(),
        meta=described(cfg, names, ipc, data, path),
        config=OmegaConf.to_yaml(cfg, resolve=True),
    )


def assumed(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with what the code that wrote the format does unless told otherwise."""
    cfg = cfg.copy()
    cfg.recipe = cfg.format  # its network is the paper's, whatever this machine is
    if cfg.normalization is None and cfg.format in ASSUMED:
        cfg.normalization = ASSUMED[cfg.format]
        log.info("format=%s: normalization=%s, unless you say so.", cfg.format, cfg.normalization)
    experts = cfg.format == "experts"
    pixels = cfg.format in ("idc", "folder") or cfg.normalization == "none"
    if cfg.normalization is not None and (experts or not pixels):
        cfg.dataset.normalize = cfg.normalization
    if experts and not named("network"):
        cfg.network = to_plain(composed_apart(["network=convnet"]).network)
    return cfg


def check_asked(cfg: DictConfig) -> None:
    """Raise a DdistError for what the file does not say and the command line should."""
    if not chosen("dataset"):
        raise DdistError("Which dataset is it made from? Say so: dataset=cifar10, for example.")
    known = cfg.format in ("idc", "folder")  # pixels
    if cfg.normalization is None and not known and cfg.format != "tensors":
        raise unsaid(cfg.format)  # of tensors 8 bits say it
    if known and cfg.normalization not in (None, "none"):
        raise DdistError(
            f"normalization is none with format={cfg.format}, not {cfg.normalization!r}."
        )
    if cfg.factor is None and cfg.format == "idc":
        raise DdistError(
            "format=idc does not say how many images are in a stored one: factor=2 (2x2, IDC), "
            "factor=3 (its ImageNet) or factor=1 (IDC-I)."
        )


def unsaid(format: str) -> DdistError:
    return DdistError(
        f"format={format} does not say in which space its images are: normalization="
        "mean_std (of the dataset, as the authors' code normalises), zca (whitened) or none "
        "(pixels in [0, 1])."
    )


def paths_of(value: Any) -> list[Path]:
    """Return the paths in a setting that holds one or several."""
    several = OmegaConf.is_list(value)
    return [Path(str(item)).expanduser() for item in (value if several else [value])]


def import_experts_of(cfg: DictConfig, path: Path) -> None:
    """Write the trajectories of ``path`` as experts of the run's network and dataset."""
    cfg = assumed(cfg)
    check_asked(cfg)
    if not path.exists():
        raise DdistError(f"There is no {path}: path is what format=experts reads.")
    cfg, data = read_data(cfg)
    network, folder = build_network(cfg.network, data), Path(cfg.paths.run) / "experts"
    num, epochs = import_experts(path, network, folder, data.name, cfg.normalization)
    log.info(
        "%d experts of %d epochs: ddist method=mtt dataset=%s dataset.normalize=%s "
        "trajectories=stored trajectories.folder=%s",
        num,
        epochs,
        chosen_names()["dataset"],
        cfg.normalization,
        folder,
    )


def read(cfg: DictConfig, path: Path, data: RealData) -> Foreign:
    match cfg.format:
        case "dc":
            return read_dc(path, cfg.index)
        case "mtt":
            return read_mtt(path)
        case "idc":
            return read_idc(path)
        case "dd":
            return read_dd(path)
        case "tensors":
            labels = [] if cfg.labels is None else paths_of(cfg.labels)
            return read_tensors(paths_of(cfg.path), labels, cfg.index, data.image_shape)
        case _:
            return read_folder(path, data.class_names, data.image_shape[0])


def name_of(cfg: DictConfig, path: Path) -> str:
    """Return the method: as the command line says, else as DC's file is called (res_DM_...)."""
    if chosen("method"):
        return chosen_names()["method"]
    words_of_name = path.stem.split("_")
    named = cfg.format == "dc" and words_of_name[0] == "res" and len(words_of_name) > 1
    return words_of_name[1].lower() if named else "imported"


def completed(cfg: DictConfig, ipc: int) -> DictConfig:
    """Return the config of the imported set: ``cfg`` without the default method's settings, and
    with the format's own protocol and network unless others were chosen."""
    cfg = cfg.copy()
    usual = composed_apart(
        [
            f"evaluation={PROTOCOLS.get(cfg.format, 'dc2021')}",
            "network=convnet",
            f"dataset={chosen_names()['dataset']}",
        ]
    )
    usual.ipc = ipc
    usual.dataset = cfg.dataset
    if not chosen("evaluation"):
        cfg.evaluation = to_plain(usual.evaluation)
    if not chosen("network"):
        cfg.network = to_plain(usual.network)
    if not chosen("method"):
        cfg.method = {}
    cfg.ipc, cfg.steps = ipc, 0
    cfg.synthetic.factor = cfg.factor or 1
    return cfg


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
