"""Small trials of a run's parts, from which follows how long all of them take."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.callbacks import MetricsCSV
from ddist.data import RealData
from ddist.evaluation import Evaluator, LinearProbe, NearestNeighbours, Replay, Training
from ddist.init import InitialWeights
from ddist.methods import Method
from ddist.seeding import generator
from ddist.synthetic.earlier import classes_of
from ddist.synthetic.start import start_images
from ddist.tasks.beside import Chosen, as_pixels
from ddist.tasks.build import build_evaluator, build_init, build_method
from ddist.tasks.config import real_each
from ddist.tasks.fitting import fit
from ddist.tasks.names import chosen_names
from ddist.tasks.results import evaluate
from ddist.tasks.rows import KeptRows
from ddist.tasks.selection import select
from ddist.tasks.teachers import FindTeacher, shared_teacher
from ddist.tasks.timing import StepTimes, now, seconds_of, slope, tested_on_fewer

Results = tuple[dict[str, Any], dict[str, Tensor]]

SMALL: dict[str, Any] = {
    "resume": False, "callbacks.budget.limit": None, "reference.measure": False,
    "init.epochs": 1, "teacher.epochs": 1, "method.embedding.epochs": 1,
    "trajectories.num_experts": 1, "method.generative.steps": 2, "method.num_candidates": 1,
}  # fmt: skip
"""Settings of the trials, where the run has them: what they need is trained briefly."""
FEW_IMAGES = 16
"""Images of each class that trials train on; more where the method looks at more."""
FEW_TESTED = 250


@dataclass(frozen=True)
class Trial:
    """A run of ``cfg`` with its data, and what stands for it in trials: the settings ``small`` and
    ``images`` of each class, ``few``. Each part is watched for ``seconds`` at least."""

    cfg: DictConfig
    data: RealData
    small: DictConfig
    images: int
    few: RealData
    init: InitialWeights
    teacher: FindTeacher
    seconds: float

    def method(self, images: int, **settings: int) -> Method:
        """Make the method on ``images`` of each class, with these ``method.*`` settings."""
        small = changed(self.small, {f"method.{name}": n for name, n in settings.items()})
        few = self.data.limited(images, "estimate")
        return build_method(small, few, self.init, self.teacher)

    def evaluator(self, **settings: int) -> Evaluator:
        """Make the evaluator with these ``evaluation.*`` settings."""
        small = changed(self.small, {f"evaluation.{name}": n for name, n in settings.items()})
        name = chosen_names()["network"]
        return build_evaluator(small, name, self.few, self.init, self.teacher)


def begin(cfg: DictConfig, data: RealData, seconds: float) -> Trial:
    """Choose what stands for the run of ``cfg`` in trials."""
    images = max(
        FEW_IMAGES,
        cfg.method.get("real_per_class") or 0,
        ceil((cfg.method.get("batch_real") or 0) / data.num_classes),
        ceil((OmegaConf.select(cfg, "method.judge.tuning_images") or 0) / data.num_classes),
        cfg.ipc * max(cfg.method.get("factor", 1) ** 2, real_each(cfg)),
    )
    small = changed(cfg, {**SMALL, "init.subset": images, "method.train_per_class": images})
    few = data.limited(images, "estimate")
    init, teacher = build_init(small, few), shared_teacher(small, few)
    return Trial(cfg, data, small, images, few, init, teacher, seconds)


def preparing(trial: Trial) -> float:
    """Return the seconds that it takes to make the method, on all images and of all candidates."""
    base = trial.images
    most = ceil(len(trial.data.train) / trial.data.num_classes)

    def took(images: int = base, **settings: int) -> float:
        return seconds_of(lambda: trial.method(images, **settings))

    total = took() + slope(took, base, most, trial.seconds) * max(0, most - base)
    if (candidates := trial.cfg.method.get("num_candidates", 1)) > 1:
        one = slope(lambda n: took(num_candidates=n), 1, candidates, trial.seconds)
        total += one * (candidates - 1)
    return total


def distilling(trial: Trial, method: Method, folder: Path) -> tuple[float, int]:
    """Return the seconds that all outer steps take, from the first few, and how many those were."""
    if not method.learns:
        return 0.0, 0
    network = method.network.to(trial.data.device)
    if method.uses_network and method.draws_networks:
        trial.init.prepare(network)
    if (experts := getattr(method, "trajectories", None)) is not None:
        experts.prepare(network, method.last_epoch)
    steps = StepTimes(trial.seconds)
    callbacks = [callback for callback in instantiate(trial.small.callbacks).values() if callback]
    logger = MetricsCSV(folder / "metrics.csv")
    started = now()
    trainer = fit(trial.small, method, folder, logger, [*callbacks, steps])
    left = max(0, trainer.max_steps - trainer.global_step)
    return now() - started + left * steps.seconds_per_step, trainer.global_step


def evaluating(
    trial: Trial,
    evaluator: Evaluator,
    distilled: DistilledDataset,
    variants: dict[str, DistilledDataset],
    baseline: bool,
) -> tuple[float, Results]:
    """Return the seconds that the evaluation takes, of all networks, epochs and images, from few of
    each; and the results of such a short one."""
    results: list[Results] = []
    chosen = None  # random images take as long as chosen ones, once these are chosen
    if (select_by := trial.cfg.reference.coreset.select) is not None:
        labels = classes_of(as_pixels(distilled)).cpu().sort().values
        images = start_images("real", trial.few, labels, generator(trial.cfg.seed, "estimate"))
        chosen = Chosen(select_by, images)

    def took(tested: int, **few: int) -> float:
        short = trial.evaluator(**few)
        # The features of all training images are another part of the estimate.
        data = trial.few if isinstance(short.protocol, LinearProbe) else trial.data
        fewer = tested_on_fewer(data, tested)
        with TemporaryDirectory() as folder:  # each trial computes all its rows
            rows = KeptRows(short, Path(folder), {})
            started = now()
            total = evaluate(
                trial.small,
                rows,
                distilled,
                fewer,
                names=chosen_names(),
                distill_seconds=None,
                baseline=baseline,
                variants=variants,
                teacher=trial.teacher,
                chosen=chosen,
            )
            results.append(total)
            select(rows, distilled, fewer)
            return now() - started

    least, most = sizes(evaluator, distilled, trial.data)
    took(**least)  # warms up
    total = took(**least)
    together = most.get("num_networks", 1) / least.get("num_networks", 1)
    for name, num in most.items():
        asked = partial(lambda name, units: took(**{**least, name: units}), name)
        one = slope(asked, least[name], num, trial.seconds)
        total += one * (num - least[name]) * (together if name in ("epochs", "tested") else 1)
    return total, results[-1]


def sizes(
    evaluator: Evaluator, distilled: DistilledDataset, data: RealData
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the numbers that an evaluation's time grows with, first in trials, then in the run."""
    protocol = evaluator.protocol
    most = {"tested": min(len(data.test), evaluator.test_images or len(data.test))}
    least = {"tested": FEW_TESTED, "tuning_images": FEW_TESTED, "epochs": 1}
    if isinstance(protocol, Training):
        most["epochs"] = protocol.schedule(len(distilled.examples()[0])).passes
    if isinstance(protocol, Training | Replay):
        alike = evaluator.init.single and protocol.num_held_out is not None
        most["num_networks"] = 1 if alike else protocol.num_networks
        least["num_networks"] = protocol.chunk
    if isinstance(protocol, NearestNeighbours | Replay):
        most["tuning_images"] = protocol.tuning_images
    return {name: min(num, least[name]) for name, num in most.items()}, most


def changed(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return ``cfg``, resolved, with those of ``values`` that it has a place for."""
    other = cfg.copy()
    for key, value in values.items():
        place, _, name = key.rpartition(".")
        group = OmegaConf.select(other, place) if place else other
        if isinstance(group, DictConfig) and name in group:
            group[name] = value
    OmegaConf.resolve(other)
    return other
