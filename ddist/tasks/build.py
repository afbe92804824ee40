"""The objects of a run, made from its config."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from inspect import isclass
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from ddist.data import RealData
from ddist.data.sources.base import Request
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, Protocol
from ddist.evaluation.attacks import attacks_of
from ddist.experts import Stored, Trajectories
from ddist.init import ImageNet, InitialWeights, Own
from ddist.init.imagenet import SOURCE as IMAGENET
from ddist.methods import Method
from ddist.networks import Backbone
from ddist.objectives import Objective
from ddist.settings.auto import AUTO, held_out
from ddist.synthetic.start import images_per_class
from ddist.tasks.adapt import adapted, adapted_network
from ddist.tasks.checks import (
    check_augment,
    check_held_out,
    check_init,
    check_objective,
)
from ddist.tasks.config import load_option, real_each, to_plain
from ddist.tasks.networks import build_network_for
from ddist.tasks.targets import make, maker
from ddist.tasks.teachers import FindTeacher, find_teacher
from ddist.tasks.upgrade import upgrade

log = logging.getLogger(__name__)

MakeSource = Callable[[Request], Any]
"""Gives the arrays of a dataset (see :mod:`ddist.data.sources`)."""


def find_device(accelerator: str) -> torch.device:
    """Return the device to compute on: an accelerator, or the CPU without one or if asked for."""
    current = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if current is None or accelerator == "cpu" else current


def build_data(cfg: DictConfig, source: MakeSource | None = None) -> RealData:
    """Return the dataset of ``cfg``, or of ``source`` instead of its own, with its images read."""
    # A YAML file of somebody's own may have been written for an earlier version.
    config = upgrade({"dataset": to_plain(cfg.dataset)})["dataset"]
    config.pop("folder", None)  # that of the source, by its short name
    if config["validation"] == AUTO:
        learns = get_object(cfg.method._target_).learns if cfg.method else False
        config["validation"] = held_out(cfg.recipe is not None, learns)
    if isinstance(config["source"], dict):
        config["source"]["_partial_"] = True
    options = {} if source is None else {"source": source}
    data: RealData = make(
        config,
        **options,
        seed=cfg.seed,
        root=cfg.paths.data,
        cache=cfg.paths.cache,
    )
    return data.load()


def read_data(cfg: DictConfig, source: MakeSource | None = None) -> tuple[DictConfig, RealData]:
    """Return ``cfg`` with the settings filled in that follow the data (see
    :func:`ddist.tasks.adapt.adapted`), and the dataset with what its method draws from it."""
    data = build_data(cfg, source)
    cfg = adapted(cfg, data)
    return cfg, data.feeding(cfg.method.get("batch_real"), cfg.method.get("real_per_class"))


def build_init(cfg: DictConfig, data: RealData) -> InitialWeights:
    """Return p(theta_0), the distribution of initial weights."""
    config = to_plain(cfg.init)
    if "source" not in config:
        init: InitialWeights = make(config, seed=cfg.seed)
        return init
    name, subset, weights = (config.pop(key) for key in ("source", "subset", "weights"))
    classes = config.pop("classes", None)
    if classes is not None and name in (None, IMAGENET):
        raise DdistError("init.classes are those of a dataset: set init.source to its name.")
    if name == IMAGENET:
        return ImageNet(weights, download=cfg.dataset.download)
    if name is None and issubclass(get_object(cfg.network._target_), Backbone):
        return Own()
    if weights is not None:
        raise DdistError("init.weights are those of init.source=imagenet: leave them out.")
    own = name in (None, data.name) and classes is None
    source = data if own else build_source(cfg, name, classes, data)
    if subset is not None:
        source = source.limited(subset, "source")
    pretrained: InitialWeights = make(config, seed=cfg.seed, source=source, cache=cfg.paths.cache)
    return pretrained


def build_source(cfg: DictConfig, name: str, classes: object, data: RealData) -> RealData:
    """Return the dataset ``name``, or some of its ``classes``, with images of the size and channels
    of ``data``. Raise a DdistError where it has another number of classes."""
    config = DictConfig({**cfg.dataset}) if name == data.name else load_option("dataset", name)
    config.classes = classes
    config.channels, config.size = data.image_shape[0], data.image_shape[1]
    config.validation = 0.0
    same = {"verify": cfg.dataset.verify, "download": cfg.dataset.download}
    source = build_data(DictConfig({**cfg, "dataset": {**config, **same}}))
    if source.num_classes != data.num_classes:
        raise DdistError(
            f"init.source={name} has {source.num_classes} classes and {data.name} has "
            f"{data.num_classes}, which one network cannot have: choose a source with as many, or "
            "as many of its classes with init.classes."
        )
    if source.class_names != data.class_names:
        log.info("The classes of %s are not those of %s.", name, data.name)
    return source


def build_method(
    cfg: DictConfig, data: RealData, init: InitialWeights, teacher: FindTeacher | None = None
) -> Method:
    """Build the method and its synthetic data. ``teacher`` comes from
    :func:`ddist.tasks.teachers.shared_teacher` where parts of the run share one."""
    check_init(init, cfg.method)
    check_augment(cfg)
    options: dict[str, Any] = {"ipc": cfg.ipc, "seed": cfg.seed, "data": data, "init": init}
    options["compile"] = cfg.compile
    options["network"] = build_network_for(cfg.method, cfg.network, data)
    options["synthetic"] = maker(cfg.synthetic)
    if cfg.synthetic.scarce == "fewer":
        options["images_per_class"] = images_per_class(data, cfg.ipc, real_each(cfg))
    config = to_plain(cfg.method)
    target = get_object(config["_target_"])
    if not (isclass(target) and issubclass(target, Method)):
        raise DdistError(f"method._target_={config['_target_']} is no subclass of Method.")
    if "trajectories" in config:
        options["trajectories"] = build_trajectories(cfg, data)
    if "teacher" in config:
        options["teacher"] = (teacher or partial(find_teacher, cfg, data))()
    for key in ("batch_real", "real_per_class", "trajectories", "teacher"):
        config.pop(key, None)  # for other parts of the run, or made already
    if cfg.trainer.precision == "bf16-mixed":
        options["student_precision"] = "bf16-mixed"
    method: Method = make(config, **options)
    return method


def build_trajectories(cfg: DictConfig, data: RealData) -> Trajectories | Stored:
    """Return the expert trajectories of ``cfg`` on ``data``: trained here, or stored."""
    config = to_plain(cfg.trajectories)
    subset = config.pop("subset", None)
    source = data if subset is None else data.limited(subset, "experts")
    trajectories: Trajectories | Stored = make(
        config, source=source, cache=cfg.paths.cache, seed=cfg.seed, compile=cfg.compile
    )
    return trajectories


def without_batch_norm(name: str, config: DictConfig) -> tuple[str, DictConfig]:
    """Return the network's name in results and its ``config``, with no normalisation where it has
    batch normalisation."""
    if config.get("norm") != "batch":
        return name, config
    return f"{name} norm=none", DictConfig({**config, "norm": "none"})


def build_evaluator(
    cfg: DictConfig,
    network_name: str,
    data: RealData,
    init: InitialWeights,
    teacher: FindTeacher | None = None,
) -> Evaluator:
    """Build the evaluator: the protocol of ``cfg.evaluation`` over its networks, by default the
    run's own, which results call ``network_name``. ``teacher`` as in :func:`build_method`."""
    config = to_plain(cfg.evaluation)
    names, precision = config.pop("networks"), config.pop("precision")
    bare, robust = config.pop("without_batch_norm"), config.pop("robust")
    test_images = config.pop("test_images")
    names = [names] if isinstance(names, str) else names
    options = {}
    if config.get("labels") == "teacher":
        options["teacher"] = (teacher or partial(find_teacher, cfg, data))().probabilities
    protocol: Protocol = make(config, **options)
    check_held_out(init, protocol)
    objective = instantiate(cfg.objective)
    check_objective(cfg, objective, data)
    configs: Mapping[str, Any] = (
        {network_name: cfg.network}
        if names is None
        else {name: adapted_network(load_option("network", name), cfg, data) for name in names}
    )
    if bare:
        configs = dict(without_batch_norm(*option) for option in configs.items())
    networks = {
        name: build_network_for(cfg.evaluation, config, data) for name, config in configs.items()
    }
    return Evaluator(
        protocol,
        networks,
        init,
        cfg.seed,
        compile=cfg.compile,
        precision=precision,
        objective=objective if isinstance(objective, Objective) else None,
        attacks=attacks_of(robust),
        test_images=test_images,
    )
