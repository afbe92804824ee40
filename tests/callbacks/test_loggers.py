import os
import sys
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger

from ddist.callbacks import (
    MetricsCSV,
    SaveImages,
    tensorboard_logger,
    wandb_logger,
    with_metrics_file,
)
from ddist.callbacks.loggers import has_wandb_key
from ddist.errors import DdistError

KEY = "a" * 40


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_a_new_column_keeps_the_earlier_rows(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "run" / "metrics.csv")
    logger.log_metrics({"loss": 2.0, "epoch": 0}, step=0)
    logger.log_metrics({"loss": 1.0, "accuracy": 0.5}, step=1)
    logger.log_metrics({"accuracy": 0.75}, step=2)
    assert logger.path.read_text().splitlines() == [
        "step,loss,accuracy",
        "0,2.0,",
        "1,1.0,0.5",
        "2,,0.75",
    ]


def test_the_wandb_key_is_found_without_asking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text(f"machine other.example login user password {KEY}\n")
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert has_wandb_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8080")
    assert not has_wandb_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_wandb_key()


def test_online_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DdistError, match="wandb login"):
        wandb_logger(tmp_path, "ddist", "name", "group", "distill", offline=False, artifact=False)


def test_tensorboard_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(DdistError, match="pip install tensorboard"):
        tensorboard_logger(tmp_path)


@pytest.mark.slow
def test_wandb_runs_offline_without_a_key(toy_run, tmp_path: Path) -> None:
    """Two loggers after each other, as in a sweep, give two runs."""
    ids = []
    for seed in (0, 1):
        logger = wandb_logger(
            tmp_path, "ddist", f"seed{seed}", "dd-mnist-ipc1", "distill", None, False
        )
        try:
            toy_run(2, [SaveImages(tmp_path / "images", 1)], logger=logger)
            ids.append(logger.experiment.id)
            assert logger.experiment.settings.mode == "offline"
            assert logger.experiment.group == "dd-mnist-ipc1"
            assert logger.experiment.summary["trainer/global_step"] == 1
            assert logger.experiment.summary["synthetic/images"]["count"] == 1
        finally:
            wandb.finish()
    assert len(set(ids)) == 2
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    assert "WANDB_MODE" not in os.environ


def test_every_dashboard_comes_with_the_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for logger in (DummyLogger(), MetricsCSV(path)):
        assert with_metrics_file(logger, path) == [logger]
    board = TensorBoardLogger(tmp_path, name="", version="")
    first, beside = with_metrics_file(board, path)
    assert first is board and isinstance(beside, MetricsCSV) and beside.path == path
