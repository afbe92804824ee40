"""Loggers of metrics: a CSV file that survives a kill and a resume, or wandb that never asks."""

import csv
import netrc
import os
from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger, Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ddist.errors import DdistError
from ddist.storage.atomic import replacing

_STEP = "step"


class MetricsCSV(Logger):
    """Logger that writes one row per logged step to exactly ``path``, with one column per metric.

    Lightning's CSVLogger deletes the file when a run is resumed and holds rows back in memory.
    Here each row is on disk at once, and the first row logged decides what stays of a file from
    before: the rows of earlier steps.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []  # empty until the first row is logged

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Log nothing: the run's folder has the whole config already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # Lightning adds the epoch, which means nothing to a run of outer steps.
        row = {_STEP: step, **{k: float(v) for k, v in metrics.items() if k != "epoch"}}
        new = [key for key in row if key not in self._columns]
        if new:
            self._rewrite(new, None if self._columns else step)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self, new: list[str], before: int | None) -> None:
        """Add columns to the file, keeping the rows (with ``before``: of earlier steps only)."""
        rows: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows = [r for r in reader if before is None or int(r[_STEP]) < before]
                self._columns = list(reader.fieldnames or [])
        self._columns += [key for key in new if key not in self._columns]
        with replacing(self.path, alone=True) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def with_metrics_file(logger: Logger, path: str | Path) -> list[Logger]:
    """Return ``logger`` and, beside what shows its curves elsewhere, the file at ``path``, of which
    the run's page draws them. logger=none stays without one."""
    if isinstance(logger, MetricsCSV | DummyLogger):
        return [logger]
    return [logger, MetricsCSV(path)]


class Wandb(WandbLogger):
    """Lightning's logger, which knows whether the distilled set is to be kept there."""

    keeps_set = False


def wandb_logger(
    save_dir: str | Path,
    project: str,
    name: str,
    group: str,
    job_type: str,
    offline: bool | None,
    artifact: bool,
) -> WandbLogger:
    """Return a WandbLogger that never stops to ask for a key.

    ``offline=None`` means offline when there is no key: neither ``WANDB_API_KEY`` nor a login in
    the netrc file; ``WANDB_MODE`` wins over both. Raises :class:`DdistError` for ``offline=False``
    without a key. ``artifact``: the distilled set is kept there too. The caller ends the run with
    ``wandb.finish()``: a second logger in the same process (a sweep) would go on with the open run.
    """
    mode = os.environ.get("WANDB_MODE")
    if offline is None:
        offline = mode in ("offline", "dryrun") if mode else not has_wandb_key()
    elif not offline and not has_wandb_key():
        raise DdistError(
            "logger.offline=false needs a wandb key, but there is none: run `wandb login`, set "
            "WANDB_API_KEY, or leave logger.offline=null to log offline and `wandb sync` later."
        )
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)  # wandb falls back to the system's /tmp otherwise
    logger = Wandb(
        save_dir=folder,
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        # Lightning's own ``offline=True`` sets WANDB_MODE for good: a sweep's next job would
        # inherit it. wandb's argument stays with the run.
        mode="offline" if offline else None,
    )
    logger.keeps_set = artifact
    logger._wandb_init.pop("anonymous", None)  # of which wandb says that it has no effect
    return logger


def tensorboard_logger(save_dir: str | Path) -> TensorBoardLogger:
    """Return a logger of TensorBoard's event files in ``save_dir``; its package is not one of
    ddist's."""
    if find_spec("tensorboard") is None:
        raise DdistError(
            "logger=tensorboard needs a package that is not installed: pip install tensorboard, "
            "or use logger=csv."
        )
    return TensorBoardLogger(save_dir, name="", version="")


def has_wandb_key() -> bool:
    """Tell whether wandb can log in without asking (``WANDB_API_KEY``, or its host in the
    netrc)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
