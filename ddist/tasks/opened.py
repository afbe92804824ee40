"""A distilled set with what it was made from: the settings, data, networks and teacher that tasks
about an artifact need."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.normalization import Normalization
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import InitialWeights
from ddist.init.stored import Given
from ddist.settings.groups import keys
from ddist.tasks.beside import random_real
from ddist.tasks.build import MakeSource, build_init, find_device, read_data
from ddist.tasks.checks import check_groups_used, check_network_used, check_teacher_used
from ddist.tasks.config import conf_dir, load_option
from ddist.tasks.names import GROUPS, chosen, chosen_names, keys_set, named, option_of
from ddist.tasks.networks import uses_network
from ddist.tasks.sweep import finished
from ddist.tasks.teachers import FindTeacher, shared_teacher
from ddist.tasks.upgrade import upgrade
from ddist.tasks.uses import begin_use
from ddist.teachers.labels import with_labels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A distilled set and the parts of a run that are about it."""

    cfg: DictConfig
    """The settings, with all filled in that follows the data."""
    distilled: DistilledDataset
    data: RealData
    """The dataset that it was made from, normalised as it is, on the device."""
    init: InitialWeights
    teacher: FindTeacher


def load_artifact(cfg: DictConfig) -> DistilledDataset:
    """Return the set that ``cfg.artifact`` names. Raise a DdistError where it names none."""
    if cfg.artifact is None:
        raise DdistError(
            f"task={option_of('task')} needs the folder of a distilled set, or the name of one of "
            "task=sets: artifact=FOLDER."
        )
    return DistilledDataset.load(Path(str(cfg.artifact)).expanduser())


def taken_up(cfg: DictConfig) -> tuple[DistilledDataset, DictConfig, dict[str, str]] | None:
    """Return the set that ``cfg.artifact`` names, and what :func:`adopted` returns for it, once the
    run's folder is ready (see :func:`begin_use`). None, which is logged, where the run has finished
    before."""
    distilled = load_artifact(cfg)
    begin_use(cfg)
    cfg, names = adopted(cfg, distilled)
    if finished(cfg) is not None:
        log.info("Finished before: %s", cfg.paths.run)
        return None
    return distilled, cfg, names


def opened(
    cfg: DictConfig,
    distilled: DistilledDataset,
    *,
    asks_teacher: bool = False,
    source: MakeSource | None = None,
) -> Opened:
    """Read the data of ``cfg``, which :func:`adopted` returns, and build what goes with it.
    ``source`` gives data that is in memory already; ``asks_teacher`` says that one is asked for
    labels of real images. Raise a DdistError, before any work, for what does not fit the set."""
    check_groups_used(cfg.evaluation)
    check_teacher_used(cfg, asks_teacher)
    check_network_used(cfg, uses_network(cfg.evaluation))
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    cfg, data = read_data(cfg, source)
    data = data.normalized_by(Normalization.from_state(distilled.normalization))
    data.to(find_device(cfg.trainer.accelerator))
    check_same_classes(distilled, data)
    if chosen("init") or distilled.initial_weights is None:
        init = build_init(cfg, data)
    else:
        init = Given(distilled.initial_weights, otherwise=lambda: build_init(cfg, data))
    return Opened(cfg, distilled, data, init, shared_teacher(cfg, data))


def adopted(cfg: DictConfig, distilled: DistilledDataset) -> tuple[DictConfig, dict[str, str]]:
    """Return ``cfg`` with the artifact's settings where the command line is silent, and what the
    parts are called in the results."""
    cfg = cfg.copy()
    stored = OmegaConf.to_container(OmegaConf.create(distilled.config))
    assert isinstance(stored, dict)
    own = OmegaConf.create(upgrade({str(key): value for key, value in stored.items()}))
    names = {**chosen_names(), "method": distilled.meta["method"]}
    for group in keys(lambda key: key.adopted):
        if chosen(group) or group not in own:
            continue
        if group == "teacher" and "_target_" not in own.teacher:
            continue  # that of the protocol, if it needs one
        set_by_hand = {key: OmegaConf.select(cfg, key) for key in keys_set(group)}
        cfg[group] = own[group]
        if group in GROUPS:
            names[group] = distilled.meta.get(group, names[group])
        option = own.evaluation.name if group == "evaluation" else names.get(group)
        if option is not None:  # a setting that is newer than the artifact has its default
            cfg[group] = OmegaConf.merge(yaml_defaults(group, option), own[group])
        _, height, width = distilled.meta["image_shape"]
        if group == "dataset" and cfg.dataset.get("size") is None and height == width:
            cfg.dataset.size = height  # which may have been chosen for it
        if group == "evaluation" and named("kernel") and "kernel" in own[group]:
            cfg[group].kernel = cfg.kernel  # not the one that the run was evaluated under
        for key, value in set_by_hand.items():
            OmegaConf.update(cfg, key, value)
    if not chosen("threads"):  # which a recipe sets, that of the default method for the digits
        cfg.threads = OmegaConf.select(primary(), "threads")
    if chosen("network") and "evaluation.networks" not in keys_set("evaluation"):
        cfg.evaluation.networks = None  # the chosen one, not those the run was evaluated under
    return cfg, names


def primary() -> DictConfig:
    """Return config.yaml as it is, without any group."""
    return DictConfig(OmegaConf.load(conf_dir() / "config.yaml"))


def yaml_defaults(group: str, name: str) -> DictConfig:
    """Return the YAML files' settings of an option; for one that no longer exists, those that all
    options of its group have in common."""
    common = primary().get(group, {})
    try:
        return DictConfig(OmegaConf.merge(common, load_option(group, name)))
    except DdistError:
        return DictConfig(common)


def random_images(about: Opened) -> DistilledDataset:
    """Return as many random real images as are distilled, with the same teacher's labels."""
    images = random_real(about.distilled, about.data, about.cfg.seed)
    if about.distilled.label_temperature is None:
        return images
    options = about.distilled.label_temperature, about.distilled.meta.get("label_top_k")
    return with_labels(images, about.teacher(), *options)


def check_same_classes(distilled: DistilledDataset, data: RealData) -> None:
    """Raise a DdistError unless ``data`` has the image shape and classes of the distilled set."""
    expected = (tuple(distilled.meta["image_shape"]), list(distilled.meta["class_names"]))
    if expected != (tuple(data.image_shape), list(data.class_names)):
        raise DdistError(
            f"The distilled set has images {expected[0]} of {len(expected[1])} classes, but "
            f"{data.name} has {tuple(data.image_shape)} of {data.num_classes} (or names or orders "
            "them otherwise): choose the dataset it was made from."
        )
