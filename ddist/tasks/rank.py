"""task=rank: how well does a distilled set rank networks, or other settings of their training?"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ddist.artifact.dataset import DistilledDataset
from ddist.compare.ranking import Agreement, agreements, first_choice, scatter
from ddist.compare.sheet import Sheet, make_sheet
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, Row, Training
from ddist.formatting import duration
from ddist.settings.ranges import PositiveInt
from ddist.stages.stopping import keeping
from ddist.tasks.build import build_evaluator
from ddist.tasks.claim import kept_in
from ddist.tasks.config import to_plain, with_settings
from ddist.tasks.opened import Opened, opened, random_images, taken_up
from ddist.tasks.rows import KeptRows
from ddist.tasks.space import Settings, axes_of, check_axes, drawn, label
from ddist.tasks.sweep import decisive
from ddist.tasks.uses import publish_use, use_results

log = logging.getLogger(__name__)

SET, RANDOM, EARLY, ALL = "distilled", "random", "early", "all"
NAMES = {SET: "distilled images", RANDOM: "random real images", EARLY: "all images, stopped early"}
NOTE = (
    "Correlation with the ranking by training on all images, 95 % bootstrap intervals over the "
    "settings; the best k are those of training on all images. Few settings, or few that are good, "
    "say little: read the intervals."
)

Ranked = list[tuple[Settings, dict[str, Row], dict[str, float]]]
"""Settings, the row of each way of training them, and the seconds it took."""


def run(
    cfg: DictConfig,
    *,
    num_settings: PositiveInt,
    space: Mapping[str, Any],
    num_networks: PositiveInt,
    epochs: PositiveInt,
    random: bool,
    early: bool,
    top: list[PositiveInt],
) -> None:
    """Train ``num_networks`` of each of ``num_settings`` settings of ``space`` on ``cfg.artifact``,
    on random real images and on all images for ``epochs`` (and no longer than on the set, with
    ``early``); write how alike the rankings are, over all settings and the ``top`` best."""
    started, folder = time.monotonic(), Path(cfg.paths.run)
    if (begun := taken_up(cfg)) is None:
        return
    distilled, cfg, names = begun
    axes = axes_of(space)
    check_axes(axes, cfg)
    cfg = with_settings(cfg, {"evaluation.networks": None, "evaluation.num_networks": num_networks})
    about = opened(cfg, distilled, asks_teacher=distilled.label_temperature is not None)
    chosen = usable(about, axes, num_settings)
    others = {RANDOM: random_images(about)} if random else {}
    with keeping(partial(kept_in, folder, about.cfg)):
        ranked: Ranked = []
        for settings in chosen:
            kept = kept_rows(about, settings, folder)
            rows, took = trained(about, kept, settings, others, epochs, early)
            ranked.append((settings, rows, took))
            say(len(ranked), len(chosen), settings, rows)
    results = use_results(about.cfg, names, about.cfg.evaluation.name, started)
    accuracies = {
        kind: [rows[kind].accuracy_mean for _, rows, _ in ranked] for kind in ranked[0][1]
    }
    truth = accuracies.pop(ALL)
    agreed = agreements(accuracies, truth, top, cfg.seed)
    fill(results, ranked, agreed, {k: first_choice(v, truth) for k, v in accuracies.items()})
    named = {NAMES[kind]: values for kind, values in accuracies.items()}
    picture = {"rank.png": scatter(named, truth)}
    publish_use(folder, results, sheets(results), [NOTE, best_of(results)], picture)


def usable(about: Opened, axes: Mapping[str, list[Any]], number: int) -> list[Settings]:
    """Return ``number`` settings, or all that there are, of which networks can be built. Raise a
    DdistError where there are fewer than 3."""
    refused: list[DdistError] = []

    def builds(settings: Settings) -> bool:
        try:
            evaluator = evaluator_of(about, settings)
        except DdistError as error:
            refused.append(error)
            return False
        if not isinstance(evaluator.protocol, Training):
            raise DdistError(
                f"task=rank trains networks on images of any kind, which evaluation="
                f"{evaluator.protocol.name} does not: choose evaluation=dc2021, for example."
            )
        return True

    chosen = list(islice(filter(builds, drawn(axes, about.cfg.seed)), number))
    if len(chosen) < 3:
        why = f" ({refused[-1]})" if refused else ""
        raise DdistError(
            f"task.space has {len(chosen)} settings that can be used, and a ranking needs 3{why}."
        )
    if refused:
        log.warning("%d settings cannot be used: %s", len(refused), refused[-1])
    return chosen


def evaluator_of(about: Opened, settings: Settings, epochs: int | None = None) -> Evaluator:
    """Return what trains networks with ``settings``, for so many ``epochs`` if any are given."""
    length = {} if epochs is None else {"evaluation.epochs": epochs}
    cfg = with_settings(about.cfg, settings | length)
    return build_evaluator(cfg, label(settings), about.data, about.init, about.teacher)


def kept_rows(about: Opened, settings: Settings, folder: Path) -> KeptRows:
    """Return the rows of one of the settings, in the run's ``folder``."""
    cfg = with_settings(about.cfg, settings)
    return KeptRows(evaluator_of(about, settings), folder, decisive(to_plain(cfg)))


def trained(
    about: Opened,
    kept: KeptRows,
    settings: Settings,
    others: Mapping[str, DistilledDataset],
    epochs: int,
    early: bool,
) -> tuple[dict[str, Row], dict[str, float]]:
    """Return the rows of one of the settings trained in each way, and the seconds it took."""
    rows: dict[str, Row] = {}
    took: dict[str, float] = {}
    data, protocol = about.data, kept.evaluator.protocol
    assert isinstance(protocol, Training)
    for kind, images in {SET: about.distilled, **others}.items():
        (rows[kind],) = kept.run(kind, images, data)
        took[kind] = kept.took
    num_images = len(about.distilled.images) * about.distilled.factor**2
    cost = protocol.schedule(num_images).passes * num_images
    lengths = {EARLY: ceil(cost / len(data.train)), ALL: epochs}
    for kind, times in lengths.items():
        if kind == EARLY and not early:
            continue
        evaluator = evaluator_of(about, settings, times)
        images_of = data
        if kind == EARLY:
            assert isinstance(evaluator.protocol, Training)
            passes = evaluator.protocol.schedule(len(data.train)).passes
            images_of = data.limited(max(1, cost // passes // data.num_classes), "early")
        on_all = partial(evaluator.row_on_all_images, label(settings), images_of)
        rows[kind] = kept.once(f"{kind} {times}", on_all)
        took[kind] = kept.took
    return rows, took


def say(number: int, total: int, settings: Settings, rows: Mapping[str, Row]) -> None:
    figures = ", ".join(f"{kind} {100 * row.accuracy_mean:.1f}" for kind, row in rows.items())
    log.info("%d of %d, %s: %s %%", number, total, label(settings), figures)


def fill(
    results: dict[str, Any],
    ranked: Ranked,
    agreed: list[Agreement],
    choices: Mapping[str, float],
) -> None:
    """Write what was measured into ``results``."""
    results["settings"] = [
        {
            "settings": settings,
            "accuracy": {kind: row.accuracy_mean for kind, row in rows.items()},
            "accuracy_std": {kind: row.accuracy_std for kind, row in rows.items()},
            "seconds": took,
        }
        for settings, rows, took in ranked
    ]
    results["agreement"] = [agreement.to_dict() for agreement in agreed]
    results["first_choice"] = dict(choices)
    results["cost"]["seconds_by_training"] = {
        kind: sum(took[kind] for _, _, took in ranked) for kind in ranked[0][2]
    }
    results["summary"] = {
        f"{a.measure}, {a.proxy}": None if a.value is None else round(a.value, 3)
        for a in agreed
        if a.top is None
    }


def sheets(results: Mapping[str, Any]) -> list[Sheet]:
    """Return a table of the correlations, a line for each proxy and measure."""
    spent, choices = results["cost"]["seconds_by_training"], results["first_choice"]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for one in results["agreement"]:
        kind, measure = one["proxy"], one["measure"]
        row = cells.setdefault((kind, measure), {"ranked by": NAMES[kind], "correlation": measure})
        over = "all" if one["top"] is None else f"best {one['top']}"
        row[over] = "-"
        if one["value"] is not None:
            row[over] = f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
    for (kind, _), row in cells.items():
        row["its first choice %"] = f"{100 * choices[kind]:.2f}"
        row["training"] = duration(spent[kind])
    return [make_sheet(f"{len(results['settings'])} settings", list(cells.values()))]


def best_of(results: Mapping[str, Any]) -> str:
    """Return a sentence on the ranking by all images, which the choices are to be read against."""
    known = [one["accuracy"][ALL] for one in results["settings"]]
    spent = duration(results["cost"]["seconds_by_training"][ALL])
    return (
        f"Trained on all images, {spent}: the best of the settings has {100 * max(known):.2f} %, "
        f"the mean {100 * sum(known) / len(known):.2f} %, the worst {100 * min(known):.2f} %."
    )
