"""What the caches lack of a run's trainings, and how long these take."""

from collections.abc import Iterator
from math import ceil
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from ddist.data import RealData
from ddist.evaluation import Evaluator
from ddist.experts import Stored
from ddist.generative import Autoencoder
from ddist.init import Pretrained, Random
from ddist.inner.fit import fit
from ddist.methods import MTT, Method
from ddist.seeding import generator
from ddist.tasks.build import build_teacher, build_trajectories
from ddist.tasks.timing import seconds_of, slope, some_of
from ddist.teachers import Trained

TOGETHER = 10
"""Networks of a trial at most: they may be trained stacked."""

Missing = tuple[str, float, int]
"""A folder of the cache, the seconds that it takes to fill, and the files that are missing."""


def training_seconds(
    network: nn.Module,
    source: RealData,
    settings: dict[str, Any],
    num_networks: int,
    epochs: float,
    enough: float,
) -> float:
    """Return how long it takes to train ``num_networks`` on ``source`` for ``epochs`` each, with
    ``settings`` of :func:`ddist.inner.fit.fit`; from some batches of a few of them."""
    together, train = min(num_networks, TOGETHER), source.train
    size = min(settings["batch_size"], len(train))
    start = Random("default", 0).draw(network.to(source.device), together)

    def took(batches: int) -> float:
        few = some_of(train, batches * size)
        streams = [generator(0, "order", k) for k in range(together)]
        options = {**settings, "generators": streams, "normalize": source.normalization}
        return seconds_of(lambda: fit(network, start, few.x, few.y, **options, epochs=1))

    took(1)  # warms up
    batches = ceil(len(train) / size)
    one = slope(took, 1, batches, enough) if batches > 1 else took(1)
    return one * batches * epochs * num_networks / together


def missing_trainings(
    cfg: DictConfig, data: RealData, method: Method, evaluator: Evaluator, enough: float
) -> Iterator[Missing]:
    """Yield what the run of ``cfg`` would train first, as the cache lacks it."""
    yield from missing_pools(cfg, data, method, evaluator, enough)
    if cfg.reference.measure:
        settings = {"optimizer": "adam", "momentum": 0.9, "weight_decay": 0.0}
        settings |= {name: cfg.reference.training[name] for name in ("batch_size", "lr")}
        first = next(iter(evaluator.networks.values()))
        num, passes = cfg.reference.training.num_networks, cfg.reference.training.epochs
        yield "reference", training_seconds(first, data, settings, num, passes, enough), 0
    network = method.network.to(data.device)
    if isinstance(method, MTT):
        experts = build_trajectories(cfg, data)
        files = experts.missing(network, method.last_epoch)
        if files and not isinstance(experts, Stored):
            epochs = sum(epoch > 0 for epoch, _ in files)
            num = len({expert for _, expert in files})
            plain = {"optimizer": "sgd", "momentum": 0.0, "augment": experts.augment}
            settings = {**plain, **experts.recipe}
            seconds = training_seconds(network, data, settings, num, epochs / num, enough)
            yield "experts", seconds, len(files)
    asked = "teacher" in cfg.method or cfg.teacher.store
    if asked or cfg.evaluation.get("labels") == "teacher":
        teacher = build_teacher(cfg, data)
        if isinstance(teacher, Trained) and not teacher.file.exists():
            settings = {**teacher.recipe, "augment": teacher.augment}
            passes = teacher.schedule.passes
            del settings["epochs"]
            seconds = training_seconds(
                teacher.architecture, teacher.images, settings, 1, passes, enough
            )
            yield "teachers", seconds, 1
    if "generative" in cfg.method:
        yield from missing_autoencoder(cfg.method.generative, data, cfg.seed, enough)


def missing_pools(
    cfg: DictConfig, data: RealData, method: Method, evaluator: Evaluator, enough: float
) -> Iterator[Missing]:
    """Yield the pools of networks among them."""
    wanted = []
    if isinstance(evaluator.init, Pretrained):
        networks = [method.network] if method.learns and method.draws_networks else []
        if evaluator.protocol.num_held_out:
            networks += evaluator.networks.values()
        wanted += [(evaluator.init, network) for network in networks if method.uses_network]
    if "embedding" in cfg.method:
        most = cfg.method.train_per_class
        source = data if most is None else data.limited(most, "embedding")
        options = {"source": source, "cache": data.cache, "seed": cfg.seed}
        wanted.append((instantiate(cfg.method.embedding)(**options), method.network))
    known = set()
    for pool, network in wanted:
        name = pool.signature(network.to(data.device))
        if name not in known and (num := pool.missing(network)):
            settings = dict(pool.recipe)
            epochs = settings.pop("epochs")
            parts = network, pool.source, settings, num, epochs
            yield "pool", training_seconds(*parts, enough), 1
        known.add(name)


def missing_autoencoder(
    config: DictConfig, data: RealData, seed: int, enough: float
) -> Iterator[Missing]:
    """Yield the autoencoder among them."""
    pair = instantiate(config)
    if isinstance(pair, Autoencoder) and not pair.file(data, seed).exists():

        def took(steps: int) -> float:
            short = instantiate(config, steps=steps)
            return seconds_of(lambda: short.prepare(data, seed))

        steps = pair.recipe["steps"]
        yield "autoencoder", slope(took, 1, steps, enough) * steps, 1
