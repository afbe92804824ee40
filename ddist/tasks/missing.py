"""Trainings of a run that the caches lack, and how long they take."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from ddist.data import RealData
from ddist.evaluation import Evaluator, LinearProbe
from ddist.evaluation.frozen import FOLDER, Features, Frozen
from ddist.evaluation.full import recipe_of
from ddist.experts import Stored
from ddist.generative import Autoencoder
from ddist.init import Pretrained, Random
from ddist.inner.fit import fit
from ddist.inner.minibatches import Augment
from ddist.inner.recipe import TrainingRecipe
from ddist.methods import MTT, Method
from ddist.methods.coreset import has_published_features
from ddist.methods.probing import Probing
from ddist.seeding import generator
from ddist.tasks.beside import candidates, choosing
from ddist.tasks.build import build_trajectories
from ddist.tasks.targets import make
from ddist.tasks.teachers import build_teacher
from ddist.tasks.timing import seconds_of, slope
from ddist.teachers import Trained

TOGETHER = 10
"""The most networks of one trial, which may be trained stacked."""

MOST_EMBEDDED = 256  # images of a trial

Missing = tuple[str, float, int]
"""A folder of the cache, the seconds that it takes to fill, and the number of missing files."""


def training_seconds(
    network: nn.Module,
    source: RealData,
    recipe: TrainingRecipe,
    num_networks: int,
    enough: float,
    augment: Augment | None = None,
) -> float:
    """Return the seconds that it takes to train ``num_networks`` on ``source``, from some batches
    of a few networks."""
    together, train = min(num_networks, TOGETHER), source.train
    size = min(recipe.batch_size, len(train))
    start = Random("default", 0).draw(network.to(source.device), together)

    def took(batches: int) -> float:
        few = train.at_most(batches * size)
        streams = [generator(0, "order", k) for k in range(together)]
        options: dict[str, Any] = {"generators": streams, "normalize": source.normalization}
        parts = network, start, few.x, few.y, replace(recipe, epochs=1)
        return seconds_of(lambda: fit(*parts, **options, augment=augment))

    took(1)  # warms up
    batches = ceil(len(train) / size)
    one = slope(took, 1, batches, enough) if batches > 1 else took(1)
    return one * batches * recipe.epochs * num_networks / together


def missing_trainings(
    cfg: DictConfig, data: RealData, method: Method, evaluator: Evaluator, enough: float
) -> Iterator[Missing]:
    """Yield the trainings that the run of ``cfg`` would begin with, as the cache lacks them."""
    yield from missing_pools(cfg, data, method, evaluator, enough)
    if cfg.reference.measure:
        training = dict(cfg.reference.training)
        num, first = training.pop("num_networks"), next(iter(evaluator.networks.values()))
        yield "reference", training_seconds(first, data, recipe_of(**training), num, enough), 0
    network = method.network.to(data.device)
    if isinstance(method, MTT):
        experts = build_trajectories(cfg, data)
        files = experts.missing(network, method.last_epoch)
        if files and not isinstance(experts, Stored):
            epochs = sum(epoch > 0 for epoch, _ in files)  # of all together
            seconds = training_seconds(
                network, experts.source, experts.recipe, epochs, enough, experts.augment
            )
            yield "experts", seconds, len(files)
    asked = "teacher" in cfg.method or cfg.teacher.store
    if asked or cfg.evaluation.get("labels") == "teacher":
        built = build_teacher(cfg, data)
        for teacher in built.members if built else []:
            if isinstance(teacher, Trained) and not teacher.file.exists():
                parts = teacher.architecture, teacher.images, teacher.recipe, 1, enough
                yield "teachers", training_seconds(*parts, teacher.augment), 1
    yield from missing_features(data, method, evaluator, enough)
    if "generative" in cfg.method:
        yield from missing_autoencoder(cfg.method.generative, data, cfg.seed, enough)


def missing_pools(
    cfg: DictConfig, data: RealData, method: Method, evaluator: Evaluator, enough: float
) -> Iterator[Missing]:
    """Yield the pools of networks that the run would train first."""
    wanted = []
    if isinstance(evaluator.init, Pretrained):
        networks = [method.network] if method.learns and method.draws_networks else []
        if evaluator.protocol.num_held_out:
            networks += evaluator.networks.values()
        wanted += [(evaluator.init, network) for network in networks if method.uses_network]
    embeddings = []
    if "embedding" in cfg.method:
        most = cfg.method.train_per_class
        source = data if most is None else data.limited(most, "embedding")
        embeddings.append((cfg.method.embedding, source))
    if cfg.reference.coreset.select is not None:
        embeddings.append((choosing(cfg).method.embedding, candidates(cfg, data)))
    if has_published_features(method.network, evaluator.init):
        embeddings = []
    for config, source in embeddings:
        options = {"source": source, "cache": data.cache, "seed": cfg.seed}
        wanted.append((make(config, **options), method.network))
    known = set()
    for pool, network in wanted:
        name = pool.signature(network.to(data.device))
        if name not in known and (num := pool.missing(network)):
            yield "pool", training_seconds(network, pool.source, pool.recipe, num, enough), 1
        known.add(name)


def missing_features(
    data: RealData, method: Method, evaluator: Evaluator, enough: float
) -> Iterator[Missing]:
    """Yield the features of training images that the method or the protocol reads."""
    networks = [method.network] if isinstance(method, Probing) else []
    if isinstance(evaluator.protocol, LinearProbe):
        networks += evaluator.networks.values()
    known = set()
    for network in networks:
        frozen = Frozen.of(network.to(data.device), evaluator.init)
        files = Features(frozen, data, data.train).shards.missing()
        if files and frozen.signature not in known:
            embed = frozen.in_parts

            def took(num: int, embed: Callable[[Tensor], Tensor] = embed) -> float:
                x = data.normalization(data.train.x[:num])
                return seconds_of(lambda: embed(x))

            took(1)  # warms up
            most = min(len(data.train), MOST_EMBEDDED)
            one = took(1) if most == 1 else slope(took, 1, most, enough)
            yield FOLDER, one * len(data.train), len(files)
        known.add(frozen.signature)


def missing_autoencoder(
    config: DictConfig, data: RealData, seed: int, enough: float
) -> Iterator[Missing]:
    """Yield the autoencoder, where the run would train it first."""
    pair = make(config)
    if isinstance(pair, Autoencoder) and not pair.file(data, seed).exists():

        def took(steps: int) -> float:
            short = make(config, steps=steps)
            return seconds_of(lambda: short.prepare(data, seed))

        steps = pair.recipe["steps"]
        yield "autoencoder", slope(took, 1, steps, enough) * steps, 1
