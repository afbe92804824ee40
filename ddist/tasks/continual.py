"""task=continual: a memory of classes that come in steps, and networks trained on it after each."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from ddist.compare.sheet import Sheet, make_sheet
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, Row, Training
from ddist.evaluation.evaluator import summarise
from ddist.report.lines import Line, lines_picture
from ddist.settings.auto import AUTO
from ddist.settings.ranges import PositiveInt
from ddist.stages.stopping import keeping
from ddist.tasks.beside import selecting
from ddist.tasks.build import build_evaluator, build_init, find_device, read_data
from ddist.tasks.checks import check_run
from ddist.tasks.claim import kept_in
from ddist.tasks.config import read_option, to_plain, with_settings
from ddist.tasks.memories import build_step, class_orders, joined, memory, of_step
from ddist.tasks.names import chosen_names
from ddist.tasks.rows import KeptRows
from ddist.tasks.sweep import decisive, finished
from ddist.tasks.teachers import shared_teacher
from ddist.tasks.uses import begin_use, publish_use, use_results

log = logging.getLogger(__name__)

NOTE = (
    "Mean test accuracy on the classes seen, ± standard deviation over the orders of the classes; "
    "each network is trained on the memory alone, from fresh weights."
)
Order = list[list[int]]
"""The classes of each step."""


def run(cfg: DictConfig, *, steps: PositiveInt, orders: PositiveInt, beside: Sequence[str]) -> None:
    """Let the classes come in ``steps``, in each of ``orders``; keep ``cfg.ipc`` images of each
    class, made by the method of ``cfg`` and by those ``beside``; write the accuracies on the
    classes seen after each step."""
    started, folder = time.monotonic(), Path(cfg.paths.run)
    begin_use(cfg, "memories")
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    cfg = whole(cfg)
    check_run(cfg)
    if finished(cfg) is not None:
        log.info("Finished before: %s", folder)
        return
    names = chosen_names()
    cfg, data = read_data(cfg)
    data.to(find_device(cfg.trainer.accelerator))
    drawn = class_orders(data.num_classes, steps, orders, cfg.seed)
    methods = methods_of(cfg, names["method"], beside)
    if get_object(cfg.method._target_).learns:  # else its images are real ones, whose labels fit
        build_step(cfg, data.of_classes(drawn[0][0]))
    rows: dict[str, list[list[Row]]] = {name: [] for name in methods}
    with keeping(partial(kept_in, folder, cfg)):
        for number, order in enumerate(drawn):
            for name, own in methods.items():
                rows[name].append(followed(own, data, name, number, order, folder))
    results = use_results(cfg, names, cfg.evaluation.name, started)
    results["steps"] = cfg.steps
    results["orders"] = [
        [[data.class_names[c] for c in group] for group in order] for order in drawn
    ]
    seen = [sum(map(len, drawn[0][: step + 1])) for step in range(steps)]
    results["continual"] = {name: figures(by_order, seen) for name, by_order in rows.items()}
    results["summary"] = {
        f"{name}, {seen[-1]} classes": figure["accuracy_mean"][-1]
        for name, figure in results["continual"].items()
    }
    pictures = {"continual.png": picture(results["continual"])}
    publish_use(folder, results, [sheet(results["continual"])], [NOTE], pictures)


def whole(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` without a budget and with all training images, unless it says otherwise. Raise
    a DdistError for a budget, and for a protocol that trains no networks."""
    if cfg.budget not in (None, AUTO):
        raise DdistError("task=continual takes the steps that it is given: set steps=…, no budget.")
    protocol = get_object(cfg.evaluation._target_)
    if not (isinstance(protocol, type) and issubclass(protocol, Training)):
        raise DdistError(
            "task=continual trains fresh networks after each step, which evaluation="
            f"{cfg.evaluation.name} does not: choose evaluation=dc2021, for example."
        )
    validation = 0.0 if cfg.dataset.validation == AUTO else cfg.dataset.validation
    return with_settings(cfg, {"budget": None, "dataset.validation": validation})


def methods_of(cfg: DictConfig, name: str, beside: Sequence[str]) -> dict[str, DictConfig]:
    """Return the settings of each method by its name. Raise a DdistError for one ``beside`` that
    learns."""
    for other in beside:
        if get_object(read_option("method", other)._target_).learns:
            raise DdistError(
                f"task.beside are methods that select images, and {other} learns them: sweep "
                f"-m method={name},{other}, for example."
            )
    return {name: cfg, **{other: selecting(cfg, other) for other in beside if other != name}}


def evaluator_of(cfg: DictConfig, data: RealData) -> Evaluator:
    teacher, init = shared_teacher(cfg, data), build_init(cfg, data)
    return build_evaluator(cfg, chosen_names()["network"], data, init, teacher)


def followed(
    cfg: DictConfig, data: RealData, name: str, number: int, order: Order, folder: Path
) -> list[Row]:
    """Return the row after each step of one order, which is the ``number``-th, with the method of
    ``cfg``, called ``name``."""
    parts, rows, seed = [], [], cfg.seed + number
    for step, group in enumerate(order):
        place = folder / "memories" / name / f"order-{number + 1}" / f"step-{step + 1}"
        parts.append(memory(of_step(cfg, seed, place), data.of_classes(group)))
        seen = data.of_classes([c for earlier in order[: step + 1] for c in earlier])
        own = of_step(cfg, seed, folder)
        kept = KeptRows(evaluator_of(own, seen), folder, decisive(to_plain(own)))
        (row,) = kept.run(f"{name},order-{number + 1},step-{step + 1}", joined(parts, seen), seen)
        rows.append(row)
    shown = " ".join(f"{100 * row.accuracy_mean:.1f}" for row in rows)
    log.info("Order %d, %s: %s %%", number + 1, name, shown)
    return rows


def figures(rows: list[list[Row]], seen: list[int]) -> dict[str, Any]:
    """Return what results.json says of a method: ``rows`` by order and step."""
    accuracies = torch.tensor([[row.accuracy_mean for row in order] for order in rows])
    over_orders = [summarise(column, "", "", {}) for column in accuracies.T]
    return {
        "classes": seen,
        "accuracy": accuracies.tolist(),
        "accuracy_mean": [row.accuracy_mean for row in over_orders],
        "accuracy_std": [row.accuracy_std for row in over_orders],
        "accuracy_ci95": [row.accuracy_ci95 for row in over_orders],
        "num_networks": rows[0][0].num_networks,
    }


def sheet(continual: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """Return the table: a line for each method, a column for each number of classes."""
    cells = []
    for name, figure in continual.items():
        spread = figure["accuracy_std"]
        row = {"memory": name}
        for classes, mean, std in zip(
            figure["classes"], figure["accuracy_mean"], spread, strict=True
        ):
            text = f"{100 * mean:.2f}"
            row[f"{classes} classes"] = text if std is None else f"{text} ± {100 * std:.2f}"
        row["mean"] = f"{100 * sum(figure['accuracy_mean']) / len(spread):.2f}"
        cells.append(row)
    orders = len(next(iter(continual.values()))["accuracy"])
    return make_sheet(f"Accuracy on the classes seen, %, {orders} orders", cells)


def picture(continual: Mapping[str, Mapping[str, Any]]) -> bytes:
    lines = [
        Line(
            name,
            figure["classes"],
            [100 * mean for mean in figure["accuracy_mean"]],
            [100 * (std or 0.0) for std in figure["accuracy_std"]],
        )
        for name, figure in continual.items()
    ]
    return lines_picture(lines, "classes seen", "test accuracy on them, %")
