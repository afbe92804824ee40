"""task=export: a distilled set in a format that other programs read."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from ddist.artifact.dataset import DistilledDataset
from ddist.errors import DdistError
from ddist.exchange.export import exported
from ddist.formatting import size
from ddist.storage.atomic import write_folder

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Write ``cfg.artifact`` in ``cfg.format`` to a folder of that name in the run's. Uploading it
    is left to the user."""
    if cfg.artifact is None:
        raise DdistError("task=export needs the folder of a distilled set: artifact=FOLDER.")
    distilled = DistilledDataset.load(Path(str(cfg.artifact)).expanduser())
    files = exported(distilled, cfg.format)
    folder = Path(cfg.paths.run) / str(cfg.format)
    write_folder(folder, files)
    total = sum(map(len, files.values()))
    log.info("%d files, %s: %s", len(files), size(total), folder)
    if cfg.format == "hub":
        log.info("Yours to upload, by: hf upload USER/NAME %s --repo-type dataset", folder)
