"""The sets that come with ddist: small, whole, found by their names from anywhere."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddist import load
from ddist.artifact.codes import Codes, images_of
from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import READY
from ddist.artifact.ready import ReadySet, ready_meta, ready_names
from ddist.errors import DdistError

SMALL = "digits-1"
MOST_BYTES = 4_000_000  # of all of them, in the wheel


@pytest.mark.parametrize("name", ready_names())
def test_each_set_is_what_its_name_says(name: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    dataset, _, ipc = name.rpartition("-")
    distilled = load(name)
    meta = distilled.meta
    assert (meta["dataset"], meta["ipc"], meta["ready"]) == (dataset, int(ipc), name)
    classes = distilled.labels if distilled.labels.ndim == 1 else distilled.labels.argmax(1)
    assert torch.bincount(classes, minlength=meta["num_classes"]).tolist() == [int(ipc)] * 10
    assert meta["command"].startswith("ddist ") and f"dataset={dataset}" in meta["command"]
    assert (
        meta["licence_of_data"]
        and meta["licence_of_data"] in (READY / name / "README.md").read_text()
    )
    assert f'ddist.load("{name}")' in (READY / name / "README.md").read_text()
    text = (READY / name / "config.yaml").read_text() + json.dumps(meta)
    assert "/root" not in text and "/home" not in text
    rows = meta["results"]["evaluation"]
    assert all(row["accuracy_mean"] > 0.2 for row in rows)


def test_all_of_them_are_small() -> None:
    assert SMALL in ready_names()
    assert sum(file.stat().st_size for file in READY.rglob("*") if file.is_file()) < MOST_BYTES


def test_names_that_are_none(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DdistError, match=r"did you mean digits-1(0)?\?.*ddist task=sets"):
        load("digit-1")
    with pytest.raises(DdistError, match="expected a folder with"):
        load("no/digits-1")
    load(SMALL).save(SMALL)  # a folder of one's own goes before
    other = replace(load(SMALL), images=load(SMALL).images + 1)
    other.save(SMALL)
    assert torch.allclose(load(SMALL).images, other.images, rtol=1e-3)


def test_images_in_half_precision(tmp_path: Path) -> None:
    distilled = load(SMALL)
    images = torch.randn_like(distilled.images)
    plain = {k: v for k, v in distilled.meta.items() if k != "images_stored"}
    whole = replace(distilled, images=images, meta=plain).save(tmp_path / "whole")
    half = replace(distilled, images=images).save(tmp_path / "half")
    sizes = [(folder / "data.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[0] - sizes[1] == pytest.approx(2 * images.numel(), abs=16)
    read = DistilledDataset.load(half)
    assert read.images.dtype == torch.float32
    assert torch.equal(read.images, images.half().float())
    assert torch.equal(DistilledDataset.load(whole).images, images)
    schemas = [json.loads((f / "meta.json").read_text())["schema"] for f in (whole, half)]
    assert schemas == [1, 3]  # which an earlier ddist refuses to read
    assert read.num_bytes == replace(distilled, meta=plain).num_bytes - 2 * images.numel()


def test_codes_of_images_in_half_precision(tmp_path: Path) -> None:
    distilled = load(SMALL)
    tensors = {
        "coefficients": torch.randn(len(distilled.images), 30),
        "places": torch.arange(30, dtype=torch.int16),
    }
    codes = Codes("frequency", False, tensors)
    shape = tuple(distilled.images.shape[1:])
    coded = replace(distilled, images=images_of(codes, shape), codes=codes)
    read = DistilledDataset.load(coded.save(tmp_path / "half"))
    rounded = {**tensors, "coefficients": tensors["coefficients"].half().float()}
    assert read.codes is not None and read.codes.tensors["coefficients"].dtype == torch.float32
    assert all(torch.equal(read.codes.tensors[name], rounded[name]) for name in rounded)
    assert torch.equal(read.images, images_of(replace(codes, tensors=rounded), shape))
    plain = {k: v for k, v in distilled.meta.items() if k != "images_stored"}
    saved = replace(coded, meta=plain).num_bytes - read.num_bytes
    assert saved == 2 * tensors["coefficients"].numel()


def test_as_a_dataset_of_torchvision(digits) -> None:
    train = ReadySet(SMALL)
    assert len(train) == len(train.targets) >= 10 and train.classes == list(digits.class_names)
    image, target = train[3]
    assert torch.equal(image, train.data[3]) and torch.equal(target, train.targets[3])
    x = digits.test.x[0]  # [1, 8, 8], uint8
    expected = load(SMALL).normalize(x[None])[0]
    torch.testing.assert_close(train.transform(x), expected)
    torch.testing.assert_close(train.transform(Image.fromarray(x[0].numpy())), expected)
    torch.testing.assert_close(train.transform(x / 255), expected)


@pytest.mark.slow
def test_its_figure_is_found_in_ten_lines(digits) -> None:
    """A few plain steps of a small network on ten images are far better than chance."""
    train = ReadySet(SMALL)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(network(train.data), train.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.stack([train.transform(each) for each in digits.test.x])
    right = network(x).argmax(1) == digits.test.y
    assert right.double().mean() > 0.7


def test_the_list(ddist) -> None:
    done = ddist("task=sets")
    assert (done.code, done.err) == (0, "")
    for name in ready_names():
        assert name in done.out
    assert str(ready_meta(SMALL)["licence_of_data"])[:9] in done.out


def test_the_name_is_an_artifact(ddist) -> None:
    quick = ("evaluation=dc2021", "evaluation.epochs=2", "evaluation.num_networks=1")
    done = ddist("task=evaluate", f"artifact={SMALL}", *quick, "hydra.run.dir=run")
    assert (done.code, done.err) == (0, "")
    wrong = ddist("task=evaluate", "artifact=digits-2")
    assert wrong.code == 1 and "no ready-made set of that name (did you mean digits-1" in wrong.err
    exported = ddist("task=export", f"artifact={SMALL}", "format=npz", "hydra.run.dir=out")
    assert exported.code == 0
