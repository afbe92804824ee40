"""What Weights & Biases gets beyond curves, and the end of its run. Other loggers get nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ddist.artifact import DistilledDataset
from ddist.report.table import accuracy_rows

FIGURES = ("accuracy_mean", "accuracy_std", "accuracy_ci95", "num_networks")


@contextmanager
def finishing(logger: Logger) -> Iterator[Logger]:
    """Ends the logger's wandb run with the block, as failed where that raises: the next job of a
    sweep, in the same process, gets a run of its own."""
    status = 1
    try:
        yield logger
        status = 0
    finally:
        # without an open run there is nothing to end, and asking for it would start one
        if isinstance(logger, WandbLogger) and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            import wandb

            if wandb.run is not None:
                wandb.finish(exit_code=status)


def log_results(logger: Logger, results: dict[str, Any], distilled: DistilledDataset) -> None:
    """The evaluation table, the learned step sizes, and the headline figures in the summary."""
    if not isinstance(logger, WandbLogger):
        return
    rows = accuracy_rows(results)
    logger.log_table(
        "evaluation",
        columns=["trained on", "protocol", "network", *FIGURES],
        data=[
            [name, row["protocol"], row["network"], *[row[key] for key in FIGURES]]
            for name, row in rows
        ],
    )
    if distilled.step_sizes is not None:
        sizes = distilled.step_sizes.tolist()
        steps = [f"step {step}" for step in range(len(sizes[0]))]
        data = [[epoch, *row] for epoch, row in enumerate(sizes)]
        logger.log_table("step_sizes", columns=["epoch", *steps], data=data)
    summary = {key: results[key] for key in ("protocol", "steps", "seed")}
    summary |= {f"cost/{key}": value for key, value in results["cost"].items()}
    summary["accuracy"] = results["evaluation"][0]["accuracy_mean"]
    for name, row in results["baselines"].items():
        summary[f"accuracy_{name}"] = row["accuracy_mean"]
    logger.experiment.summary.update(summary)
