"""dataset.normalize=zca from end to end: what a run stores, what task=evaluate makes of it, and
what task=import does with whitened images, against numpy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData

PROTOCOL = (
    "evaluation=dc2021", "evaluation.epochs=60", "evaluation.lr=0.05", "evaluation.num_networks=2",
    "network=mlp", "network.widths=[16]", "task.baseline=false",
)  # fmt: skip


def numpy_zca(data: RealData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and whitening [D, D] of the training pixels in [0, 1]: U (S + 0.1)^-1/2 U^T."""
    x = data.train.x.numpy().reshape(len(data.train), -1) / 255
    values, vectors = np.linalg.eigh(np.cov(x.T))
    return x.mean(0), vectors @ np.diag((values + 0.1) ** -0.5) @ vectors.T


def finished(ddist: Any, *arguments: str) -> Path:
    done = ddist(*arguments, "hydra.run.dir=out", "resume=false", "paths.cache=cache")
    assert (done.code, done.err) == (0, ""), done.err
    folder: Path = ddist.folder / "out"
    return folder


def rows(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_whitened_images_come_and_go(ddist: Any, digits: RealData, tmp_path: Path) -> None:
    mean, whiten = numpy_zca(digits)
    run = finished(ddist, "method=random", "ipc=3", "dataset.normalize=zca", *PROTOCOL)
    run = run.rename(tmp_path / "run")
    had = DistilledDataset.load(run / "distilled")
    pixels = had.to_pixels().numpy().reshape(30, -1)
    real = digits.train.x.numpy().reshape(len(digits.train), -1) / 255
    assert np.abs(pixels[:, None] - real).max(2).min(1).max() < 1e-4  # images of the digits
    expected = (pixels - mean) @ whiten
    np.testing.assert_allclose(had.images.numpy().reshape(30, -1), expected, atol=1e-3)
    np.testing.assert_allclose(had.normalization["whiten"], whiten, atol=1e-3)

    again = rows(finished(ddist, "task=evaluate", f"artifact={run / 'distilled'}", *PROTOCOL))
    assert again["evaluation"] == rows(run)["evaluation"]  # test images whitened alike
    assert again["evaluation"][0]["accuracy_mean"] > 0.2

    torch.save(had.images, tmp_path / "images_best.pt")
    torch.save(had.labels, tmp_path / "labels_best.pt")
    torch.save(torch.tensor(0.02), tmp_path / "lr_best.pt")
    words = ("task=import", "format=mtt", f"path={tmp_path}", "dataset=digits")
    folder = finished(ddist, *words, "normalization=zca").rename(tmp_path / "imported")
    imported = DistilledDataset.load(folder / "distilled")
    assert torch.equal(imported.images, had.images) and imported.meta["ipc"] == 3
    np.testing.assert_allclose(imported.to_pixels().numpy().reshape(30, -1), pixels, atol=1e-4)
    evaluated = rows(
        finished(ddist, "task=evaluate", f"artifact={folder / 'distilled'}", *PROTOCOL)
    )
    assert evaluated["ipc"] == 3
    assert evaluated["evaluation"][0]["accuracy_mean"] == pytest.approx(
        again["evaluation"][0]["accuracy_mean"], abs=0.01
    )


@pytest.mark.parametrize(
    ("num", "factor", "stated"), [(1, 1, None), (4, 1, 4), (2, 2, None), (2, 2, 2)]
)
def test_an_imported_sets_ipc_is_that_of_its_stored_images(
    ddist: Any, tmp_path: Path, num: int, factor: int, stated: int | None
) -> None:
    x, y = torch.rand(10 * num, 1, 8, 8), torch.arange(10).repeat_interleave(num)
    torch.save([x, y], tmp_path / "data.pt")
    words = ("task=import", "format=idc", f"path={tmp_path}", "dataset=digits", f"factor={factor}")
    folder = finished(ddist, *words, *([] if stated is None else [f"ipc={stated}"]))
    found = DistilledDataset.load(folder / "distilled")
    assert found.meta["ipc"] == OmegaConf.create(found.config).ipc == num
    refused = ddist(*words, "ipc=50")
    assert refused.code == 1 and "and ipc=50 says otherwise" in refused.err
