import errno
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import ddist.storage.atomic
from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import CONFIG, DATA, META, SCHEMA
from ddist.artifact.soft_labels import nearest_probabilities
from ddist.errors import DdistError
from ddist.seeding import generator

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
META_FIELDS = {
    "dataset": "toy",
    "method": "dd",
    "ipc": 2,
    "num_classes": 3,
    "class_names": ["cat", "Käfer", "naïve | bird"],
    "image_shape": [3, 6, 5],
    "network": {"name": "lenet", "width": 6},
    "seed": 0,
}


def make(**changes):
    """3 classes, 2 steps of one image per class, every tensor present."""
    g = generator(0, "test")
    flat = torch.randn(20, generator=g)
    fields = {
        "images": nn.Parameter(torch.randn(6, 3, 6, 5, generator=g)),
        "labels": torch.arange(3).repeat(2),
        "weights": torch.rand(12, generator=g)[::2],  # not contiguous
        "step_sizes": torch.rand(4, 2, generator=g),
        "step_index": torch.arange(2).repeat_interleave(3),
        "initial_weights": {"layer.weight": flat[:12].view(3, 4), "layer.bias": flat[4:7]},
        "normalization": {"kind": "mean_std", "mean": MEAN, "std": STD},
        "meta": dict(META_FIELDS),
        "config": "method: dd\nname: Käfer\n",
    }
    return DistilledDataset(**{**fields, **changes})


@pytest.fixture
def saved(tmp_path):
    return make().save(tmp_path / "distilled")


def same(a, b):
    return a.dtype == b.dtype and torch.equal(a, b)


def test_round_trip(saved):
    original, loaded = make(), DistilledDataset.load(saved)
    for name in ("images", "labels", "weights", "step_sizes", "step_index"):
        assert same(getattr(original, name).detach(), getattr(loaded, name)), name
    assert original.initial_weights.keys() == loaded.initial_weights.keys()
    for name, value in original.initial_weights.items():
        assert same(value, loaded.initial_weights[name])
    assert loaded.normalization.keys() == original.normalization.keys()
    assert loaded.normalization["kind"] == "mean_std"
    assert same(loaded.normalization["std"], STD)
    assert loaded.meta == {**META_FIELDS, "schema": 1, "bytes": original.num_bytes}
    assert loaded.config == original.config
    assert not loaded.images.requires_grad


def test_labels_of_regression_are_kept_and_trained_on_as_probabilities(tmp_path):
    free = torch.randn(6, 3, generator=generator(1))
    loaded = DistilledDataset.load(make(labels=free).save(tmp_path / "d"))
    assert same(loaded.labels, free)
    _, learned, _ = loaded.examples(as_learned=True)
    assert same(learned, free)
    _, probabilities, _ = loaded.examples()
    assert same(probabilities, nearest_probabilities(free))
    assert probabilities.min() >= 0 and torch.allclose(probabilities.sum(1), torch.ones(6))
    chosen = loaded.step_index == 1
    assert same(loaded.examples(chosen)[1], probabilities[chosen])
    assert "no probabilities" in (tmp_path / "d" / "README.md").read_text()


def test_what_is_absent_stays_absent_and_labels_may_be_soft(tmp_path):
    optional = ["weights", "step_sizes", "step_index", "initial_weights"]
    soft = torch.rand(6, 3, generator=generator(1))
    path = make(labels=soft, **dict.fromkeys(optional)).save(tmp_path / "d")
    loaded = DistilledDataset.load(str(path))
    assert same(loaded.labels, soft)
    assert all(getattr(loaded, name) is None for name in optional)
    assert len(loaded.as_dataset()[0]) == 2
    with pytest.raises(DdistError, match="learned no step sizes"):
        next(loaded.replay())


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    again = DistilledDataset.load(saved).save(tmp_path / "again")
    names = sorted(os.listdir(saved))
    assert names == sorted([DATA, META, CONFIG, "grid.png", "README.md"])
    assert all((saved / n).read_bytes() == (again / n).read_bytes() for n in names)


def test_to_pixels_inverts_the_normalisation_and_clamps():
    distilled = make()
    expected = distilled.images.detach() * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)
    assert expected.min() < 0 < 1 < expected.max()
    torch.testing.assert_close(distilled.to_pixels(), expected.clamp(0, 1))
    assert not distilled.to_pixels().requires_grad


def test_as_dataset_feeds_a_loader(saved):
    loaded = DistilledDataset.load(saved)
    batches = list(DataLoader(loaded.as_dataset(), batch_size=4))
    assert [len(batch[0]) for batch in batches] == [4, 2]
    for i, name in enumerate(("images", "labels", "weights")):
        assert torch.equal(torch.cat([batch[i] for batch in batches]), getattr(loaded, name))


def test_replay_goes_through_the_steps_in_order_in_every_epoch(saved):
    distilled = DistilledDataset.load(saved)
    steps = list(distilled.replay())
    assert torch.equal(torch.stack([size for *_, size in steps]), distilled.step_sizes.flatten())
    for i, (images, labels, _) in enumerate(steps):
        first = 3 * (i % 2)
        assert torch.equal(images, distilled.images[first : first + 3])
        assert labels.tolist() == [0, 1, 2]


def test_num_bytes_counts_labels_and_steps_but_no_weights_of_networks():
    assert make().num_bytes == 6 * 3 * 6 * 5 * 4 + 6 * 8 + 6 * 4 + 4 * 2 * 4 + 6 * 8
    assert make(initial_weights=None).num_bytes == make().num_bytes


def test_the_picture_is_one(saved):
    with Image.open(saved / "grid.png") as picture:
        assert picture.mode == "RGB"
        assert min(picture.size) > 100


@pytest.mark.slow
def test_loading_does_without_lightning(saved):
    code = (
        "import sys; from ddist.artifact.dataset import DistilledDataset as D; "
        f"D.load({str(saved)!r}); assert 'pytorch_lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": torch.zeros(6, 3, 6, 4)}, r"float32 images \[N, 3, 6, 5\]"),
        ({"images": torch.zeros(6, 3, 6, 5).double()}, "float64"),
        ({"images": torch.full((6, 3, 6, 5), torch.nan)}, "images holds values that are not fin"),
        ({"labels": torch.arange(6)}, r"labels in 0\.\.2, got 0\.\.5"),
        ({"labels": torch.zeros(5).long()}, r"labels int64 \[6\]"),
        ({"labels": torch.zeros(6, 4)}, r"float \[6, 3\]"),
        ({"labels": torch.zeros(6)}, r"float \[6, 3\]"),
        ({"weights": torch.zeros(5)}, r"weights \[6\]"),
        ({"step_index": None}, "beside a step_index"),
        ({"step_index": torch.zeros(6).long()}, "each of the 2 steps"),
        ({"step_index": torch.zeros(5).long()}, r"step_index int64 \[6\]"),
        ({"step_sizes": torch.rand(2)}, r"step_sizes \[E, S\]"),
        ({"meta": {**META_FIELDS, "class_names": ["a", "b"]}}, "3 class names, got 2"),
        ({"meta": {**META_FIELDS, "class_names": [0, 1, 2]}}, "class names"),
        ({"meta": {}}, "meta needs 'dataset'"),
        ({"meta": {**META_FIELDS, "num_classes": "3"}}, "num_classes"),
    ],
)
def test_parts_that_do_not_fit(change, sentence):
    with pytest.raises(DdistError, match=sentence):
        make(**change)


# Files that are not what they should be


def fails(path):
    """The one sentence with which loading fails."""
    with pytest.raises(DdistError) as caught:
        DistilledDataset.load(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def edit(path, **changes):
    meta = json.loads((path / META).read_text()) | changes
    (path / META).write_text(json.dumps(meta))


def rewrite(path, tensors):
    """Replace the tensors and make the checksum fit."""
    content = safetensors.torch.save(tensors)
    (path / DATA).write_bytes(content)
    checksums = json.loads((path / META).read_text())["sha256"]
    edit(path, sha256=checksums | {DATA: hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize("name", [DATA, META, CONFIG])
def test_truncated_and_missing(saved, name):
    content = (saved / name).read_bytes()
    for length in {*range(0, len(content) - 2, max(1, len(content) // 50)), len(content) - 2}:
        (saved / name).write_bytes(content[:length])
        assert name in fails(saved)
    (saved / name).unlink()
    assert name in fails(saved)


@pytest.mark.parametrize("name", [DATA, CONFIG])
def test_any_flipped_bit_is_found(saved, name):
    content = (saved / name).read_bytes()
    dice = random.Random(0)
    for _ in range(50):
        mutated = bytearray(content)
        mutated[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        (saved / name).write_bytes(mutated)
        assert "damaged" in fails(saved)


def test_mutated_meta_fails_with_a_sentence_or_not_at_all(saved):
    meta = json.loads((saved / META).read_text())
    values = [None, True, -1, 10**9, "x", [], ["x"], {}, {"x": []}, 1.5]
    for key in meta:
        for value in values:
            edited = {**meta, key: value}
            (saved / META).write_text(json.dumps(edited))
            try:
                DistilledDataset.load(saved)
            except DdistError as error:
                assert str(saved) in str(error)
        (saved / META).write_text(json.dumps({k: v for k, v in meta.items() if k != key}))
        if key not in ("network", "seed", "bytes"):
            fails(saved)


def test_mutated_bytes_of_meta_fail_with_a_sentence_or_not_at_all(saved):
    content = (saved / META).read_bytes()
    dice = random.Random(0)
    for _ in range(300):
        mutated = bytearray(content)
        mutated[dice.randrange(len(content))] = dice.randrange(256)
        (saved / META).write_bytes(mutated)
        try:
            DistilledDataset.load(saved)
        except DdistError as error:
            assert str(saved) in str(error)


def test_foreign(tmp_path):
    assert "data.safetensors" in fails(tmp_path / "nowhere")
    assert "meta.json" in fails(tmp_path)
    (tmp_path / "file").write_text("hello")
    assert "Not a directory" in fails(tmp_path / "file")
    for text in ('{"schema": 1}', "[1]", "3", "{}"):
        (tmp_path / META).write_text(text)
        assert "not written by ddist" in fails(tmp_path)
    (tmp_path / META).write_bytes(b"\xff\xfe")
    assert "not JSON" in fails(tmp_path)
    (tmp_path / META).write_text("[" * 100_000)
    assert "not JSON" in fails(tmp_path)


def test_the_folder_of_a_run_is_pointed_out(saved):
    assert f"its dataset is {saved}" in fails(saved.parent)


def test_a_newer_schema_says_what_to_install(saved):
    edit(saved, schema=SCHEMA + 1)
    assert "install a newer ddist" in fails(saved)


def test_tensors_missing_or_of_the_wrong_shape(saved):
    tensors = safetensors.torch.load_file(saved / DATA)
    rewrite(saved, {k: v for k, v in tensors.items() if k != "labels"})
    assert "labels" in fails(saved)
    rewrite(saved, {**tensors, "images": tensors["images"][:, :1].contiguous()})
    assert "float32 images" in fails(saved)
    rewrite(saved, {**tensors, "labels": tensors["labels"].int()})
    assert "int32" in fails(saved)


def test_a_full_disk_keeps_the_earlier_artifact(saved, monkeypatch):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def full(file, content):
        file.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ddist.storage.atomic, "write_file", full)
    with pytest.raises(DdistError, match="No space left on device"):
        make(config="other: true\n").save(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert os.listdir(saved.parent) == [saved.name]
    shutil.rmtree(saved)
    with pytest.raises(DdistError, match="No space left on device"):
        make().save(saved)
    assert os.listdir(saved.parent) == []


def test_the_code_on_the_card_runs(tmp_path, monkeypatch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    distilled = make(initial_weights=weights)
    path = distilled.save(tmp_path / "distilled")
    text = (path / "README.md").read_text()
    monkeypatch.chdir(path)
    monkeypatch.setattr(ddist, "load", DistilledDataset.load, raising=False)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    scope = {}
    for block in blocks:
        exec(block, scope)
    assert len(next(iter(scope["batches"]))) == 3
    torch.testing.assert_close(scope["pixels"], distilled.to_pixels())
    white = scope["normalize"](torch.full((1, 3, 6, 5), 255, dtype=torch.uint8))
    torch.testing.assert_close(white[0, :, 0, 0], (1 - MEAN) / STD)
    scope["train"](network)
    # eight steps of gradient descent, by torch's own optimizer
    reference = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))
    reference.load_state_dict(weights)
    for size in distilled.step_sizes.flatten().tolist():
        step = distilled.step_sizes.flatten().tolist().index(size) % 2
        x = distilled.images.detach()[3 * step : 3 * step + 3]
        sgd = torch.optim.SGD(reference.parameters(), lr=size)
        sgd.zero_grad()
        nn.functional.cross_entropy(reference(x), torch.arange(3)).backward()
        sgd.step()
    for a, b in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)
