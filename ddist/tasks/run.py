"""One run: its config, turned into the objects that take part in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger

from ddist.data import RealData
from ddist.evaluation import Evaluator
from ddist.init import InitialWeights
from ddist.methods import Method
from ddist.tasks.build import (
    MakeSource,
    build_evaluator,
    build_init,
    build_method,
    find_device,
    read_data,
)
from ddist.tasks.config import differences, to_plain
from ddist.tasks.cost import Clock
from ddist.tasks.names import chosen_names, without_network
from ddist.tasks.networks import uses_network
from ddist.tasks.plan import within_budget
from ddist.tasks.preparing import coreset_within_budget, prepared_within_budget
from ddist.tasks.teachers import FindTeacher, shared_teacher
from ddist.teachers.labels import check_stored


@dataclass(frozen=True)
class Run:
    """The parts of one run, made from its config."""

    cfg: DictConfig
    """The config, with all filled in that follows the data, the machine and the budget."""
    data: RealData
    """What is distilled, and what the evaluated networks are tested on."""
    init: InitialWeights
    """p(theta_0): what networks start from in distillation and in evaluation."""
    method: Method
    """Learns or chooses the images, one outer step at a time; holds the synthetic set."""
    teacher: FindTeacher
    """Returns the teacher that all parts share, which is trained or read at the first call."""
    evaluator: Evaluator
    """Tests distilled sets under the chosen networks by the chosen protocol."""
    logger: Logger
    """Takes the curves of the outer steps."""
    folder: Path
    """Where the run leaves everything (hydra.run.dir)."""
    names: dict[str, str]
    """What results call the method, dataset, network and init."""
    asked: dict[str, Any]
    """The settings that were filled in or cut, as they were before, by their dotted names."""
    reserve: float
    """Seconds of a budget that are kept for what comes after the outer steps."""


def build_run(
    cfg: DictConfig, clock: Clock, *, baseline: bool, source: MakeSource | None = None
) -> Run:
    """Build the run of ``cfg``, whose command began when ``clock`` did; ``source`` gives the data
    that is in memory already. Raise a DdistError, before
    any work, where parts do not fit."""
    names, before = chosen_names(), to_plain(cfg)
    cfg, data = read_data(cfg, source)
    # Fitting would move it, later.
    if cfg.budget is not None or not get_object(cfg.method._target_).learns:
        data.to(find_device(cfg.trainer.accelerator))
    cfg = prepared_within_budget(cfg, data, clock)
    cfg = coreset_within_budget(cfg, data, clock)
    init, teacher = build_init(cfg, data), shared_teacher(cfg, data)
    cfg, reserve = within_budget(cfg, data, init, teacher, clock, baseline=baseline)
    evaluator = build_evaluator(cfg, names["network"], data, init, teacher)
    if cfg.teacher.store:
        teacher()  # which says before any work if its classes are others
        factor = cfg.synthetic.factor
        check_stored(cfg.teacher.top_k, data.num_classes, factor)
    method = build_method(cfg, data, init, teacher)
    if not (uses_network(cfg.method) or uses_network(cfg.evaluation)):
        names = without_network(names)
    logger = instantiate(cfg.logger)
    folder = Path(cfg.paths.run)
    asked = {name: old for name, (old, _) in differences(before, to_plain(cfg)).items()}
    return Run(
        cfg=cfg,
        data=data,
        init=init,
        method=method,
        teacher=teacher,
        evaluator=evaluator,
        logger=logger,
        folder=folder,
        names=names,
        asked=asked,
        reserve=reserve,
    )
