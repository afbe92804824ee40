"""Contents of dashboards beyond curves and pictures, and the end of a Weights & Biases run. For how
they are shown see :mod:`ddist.callbacks.dashboards`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.figures import accuracy_rows
from ddist.callbacks.dashboards import log_set, log_summary, log_table
from ddist.callbacks.loggers import Wandb
from ddist.tasks.config import to_plain
from ddist.tasks.names import chosen_names

FIGURES = ("accuracy_mean", "accuracy_std", "accuracy_ci95", "num_networks")
# Metrics whose best value and not the last is the run's, in tables of runs.
BEST = {"distill/loss": "min", "distill/accuracy": "max"}


@contextmanager
def finishing(logger: Logger, cfg: DictConfig) -> Iterator[Logger]:
    """Describe the run to a wandb logger, and end its wandb run with the block, as failed where
    that raises: the next job of a sweep, in the same process, gets a wandb run of its own."""
    if not isinstance(logger, WandbLogger) or rank_zero_only.rank:  # type: ignore[attr-defined]
        yield logger
        return
    import wandb

    status = 1
    try:
        introduce(logger, cfg)
        yield logger
        status = 0
    finally:
        if wandb.run is not None:
            wandb.finish(exit_code=status)


def introduce(logger: WandbLogger, cfg: DictConfig) -> None:
    """Set what a dashboard groups runs and averages seeds by, and the axes of its curves."""
    run = logger.experiment
    names = chosen_names()
    own = {"ipc": cfg.ipc, "seed": cfg.seed, "steps": cfg.steps, "protocol": cfg.evaluation.name}
    run.config.update({**names, **own, "settings": to_plain(cfg)})
    for name, summary in BEST.items():
        run.define_metric(name, step_metric="trainer/global_step", summary=f"{summary},last")
    for pattern in ("distill/*", "step_size/*", "synthetic/*"):
        run.define_metric(pattern, step_metric="trainer/global_step")


def log_results(logger: Logger, results: dict[str, Any], distilled: DistilledDataset) -> None:
    """Log the evaluation and, with several networks, the table across them; learned step sizes; the
    headline figures and the cost; the set itself where the logger keeps it."""
    if not isinstance(logger, WandbLogger | TensorBoardLogger):
        return
    rows = accuracy_rows(results)
    log_table(
        logger,
        "evaluation",
        ["trained on", "protocol", "network", *FIGURES],
        [
            [name, row["protocol"], row["network"], *[row[key] for key in FIGURES]]
            for name, row in rows
        ],
    )
    networks = list(dict.fromkeys(row["network"] for row in results["evaluation"]))
    if len(networks) > 1:
        means = {(name, row["network"]): row["accuracy_mean"] for name, row in rows}
        sets = list(dict.fromkeys(name for name, row in rows if row["network"] in networks))
        cells = [[name, *(means.get((name, network)) for network in networks)] for name in sets]
        log_table(logger, "cross_architecture", ["trained on", *networks], cells)
    if distilled.step_sizes is not None:
        sizes = distilled.step_sizes.tolist()
        steps = [f"step {step}" for step in range(len(sizes[0]))]
        table = [[epoch, *row] for epoch, row in enumerate(sizes)]
        log_table(logger, "step_sizes", ["epoch", *steps], table)
    cost = [[name, value] for name, value in results["cost"].items()]
    log_table(logger, "costs", ["of", "value"], cost)
    log_summary(logger, summary(results))
    if isinstance(logger, Wandb) and logger.keeps_set:
        name = "-".join(str(results[key]) for key in ("method", "dataset"))
        log_set(logger, distilled, f"{name}-ipc{results['ipc']}-seed{results['seed']}")


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that runs are compared by, by name."""
    figures = {key: results[key] for key in ("protocol", "steps", "seed")}
    figures |= {f"cost/{key}": value for key, value in results["cost"].items()}
    if selection := results.get("selection"):  # what a sweep may look at
        figures[selection["name"]] = selection["value"]
    figures["accuracy"] = results["evaluation"][0]["accuracy_mean"]
    for row in results["evaluation"]:
        figures[f"eval/{row['network']}/accuracy"] = row["accuracy_mean"]
    for name, row in results["baselines"].items():
        figures[f"accuracy_{name}"] = row["accuracy_mean"]
    return figures
