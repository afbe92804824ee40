"""task=evaluate: how good is a distilled set, also under another network or protocol?"""

import logging
from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from ddist.stages.stopping import keeping
from ddist.tasks.build import MakeSource, build_evaluator
from ddist.tasks.checks import check_reference
from ddist.tasks.claim import kept_in
from ddist.tasks.config import to_plain
from ddist.tasks.dashboards import finishing
from ddist.tasks.names import without_network
from ddist.tasks.networks import uses_network
from ddist.tasks.opened import opened, taken_up
from ddist.tasks.results import evaluate, publish
from ddist.tasks.rows import KeptRows
from ddist.tasks.sweep import decisive

log = logging.getLogger(__name__)


def run(cfg: DictConfig, *, baseline: bool, source: MakeSource | None = None) -> None:
    """Evaluate ``cfg.artifact`` with its own dataset, network, p(theta_0), protocol and seed,
    unless the command line says otherwise; ``source`` gives data that is in memory already."""
    folder = Path(cfg.paths.run)
    if (begun := taken_up(cfg)) is None:
        return
    distilled, cfg, names = begun
    check_reference(cfg)
    asks_teacher = baseline and distilled.label_temperature is not None
    about = opened(cfg, distilled, asks_teacher=asks_teacher, source=source)
    cfg, data = about.cfg, about.data
    evaluator = build_evaluator(cfg, names["network"], data, about.init, about.teacher)
    if not (distilled.meta.get("uses_network", True) or uses_network(cfg.evaluation)):
        names = without_network(names)
    rows = KeptRows(evaluator, folder, decisive(to_plain(cfg)))
    with keeping(partial(kept_in, folder, cfg)), finishing(instantiate(cfg.logger), cfg) as logger:
        results, confusion = evaluate(
            cfg,
            rows,
            distilled,
            data,
            names=names,
            distill_seconds=None,
            baseline=baseline,
            variants={},
            teacher=about.teacher,
        )
        publish(results, confusion, distilled, folder, logger)
    rows.remove()
