"""Folders of pictures that are larger than dataset.source.in_memory: the same as in memory."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.data.ondisk import OnDisk, parts
from ddist.data.sources import pictures
from ddist.errors import DdistError
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.networks import MLP
from ddist.seeding import generator

Factory = Callable[..., RealData]
COUNTS = {"ant": 7, "bee": 12, "cat": 5}
BYTES = 3 * 12 * 12


def paint_all(root: Path, factor: int = 1, side: int = 15, seed: int = 0) -> Path:
    """Random JPEGs of different sizes: ``factor`` times COUNTS for training, half as many to
    test."""
    random = np.random.default_rng(seed)
    for part, share in (("train", factor), ("test", factor / 2)):
        for name, count in COUNTS.items():
            (root / part / name).mkdir(parents=True)
            for k in range(int(share * count)):
                shape = (side, side + int(random.integers(6)), 3)
                pixels = random.integers(256, size=shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{k:05d}.jpg")
    return root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pictures, "SHARD_BYTES", 5 * BYTES)  # five pictures of a class to a file
    return paint_all(tmp_path / "pictures")


@pytest.fixture
def read(real_data: Factory, folder: Path) -> Callable[..., RealData]:
    def build(in_memory: float = 0, **options: object) -> RealData:
        source = {"folder": str(folder), "in_memory": in_memory}
        return real_data("imagefolder", source=source, **{"size": 12, **options}).load()

    return build


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subset": 4},
        {"validation": 0.3},
        {"channels": 1},
        {"normalize": "zca"},
        {"normalize": "none", "subset": 5, "validation": 0.2},
        {"augmentation": "crop_flip"},
    ],
    ids=str,
)
def test_all_is_as_in_memory_bit_for_bit(
    read: Callable[..., RealData], options: dict[str, object]
) -> None:
    disk, memory = read(0, **options), read(1, **options)
    for ours, theirs in (
        (disk.train, memory.train), (disk.test, memory.test), (disk.validation, memory.validation),
    ):  # fmt: skip
        if theirs is not None:
            assert ours is not None
            assert isinstance(ours.x, OnDisk) and isinstance(theirs.x, torch.Tensor)
            assert torch.equal(torch.cat(list(parts(ours.x, 4))), theirs.x)
            assert torch.equal(ours.x.in_memory(), theirs.x)
            assert torch.equal(ours.y, theirs.y) and ours.offsets == theirs.offsets
    state, expected = disk.normalization.state(), memory.normalization.state()
    tensors = [name for name, value in expected.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(state[name], expected[name]) for name in tensors)  # type: ignore[arg-type]
    # What was trained on one of them is found by the other.
    assert disk.fingerprint() == memory.fingerprint()
    again = read(0, **options)
    assert again.fingerprint() == memory.fingerprint()
    assert disk.limited(2, "few").fingerprint() == memory.limited(2, "few").fingerprint()
    for size in (6, 50):
        batches = [each.batch(size, generator(0, "batch")) for each in (disk, memory)]
        assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))
    rows = disk.class_indices(3, generator(1))
    assert torch.equal(disk.images(rows), memory.images(rows))
    assert torch.equal(disk.images(rows.flip(0)), memory.images(rows.flip(0)))
    ours_all, theirs_all = (list(each.batches(each.test, 5)) for each in (disk, memory))
    assert all(
        torch.equal(x, u) and torch.equal(y, v)
        for (x, y), (u, v) in zip(ours_all, theirs_all, strict=True)
    )


def test_training_on_them_gives_the_same_weights(read: Callable[..., RealData]) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(BYTES, 3))
    start = {n: torch.zeros_like(w)[None] for n, w in network.named_parameters()}
    found = [
        fit(
            network, start, data.train.x, data.train.y,
            TrainingRecipe(epochs=2, batch_size=batch_size, optimizer="sgd", lr=0.1, momentum=0.9,
                           weight_decay=0.0),
            generators=[generator(0)], normalize=data.normalization,
        )
        for batch_size in (7, 100)
        for data in (read(0), read(1))
    ]  # fmt: skip
    for ours, theirs in (found[:2], found[2:]):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_nothing_is_read_to_look_at_shapes_or_to_pick(
    read: Callable[..., RealData], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(0).fingerprint()
    monkeypatch.setattr("ddist.storage.shards.Shards.read", None)
    data = read(0, validation=0.2, subset=5, normalize="none")
    x = data.train.x
    assert x.shape == (len(x), 3, 12, 12) and x.dtype == torch.uint8
    assert read(0).fingerprint()  # known, as are the mean and the standard deviation
    assert len(data.limited(2, "few").train) == 6


def decoding(monkeypatch: pytest.MonkeyPatch, stop_after: int = 10**9) -> list[Path]:
    """The pictures that are decoded from now on; after so many it is interrupted."""
    decoded: list[Path] = []
    decode = pictures.decode

    def count(path: Path, *options: Any) -> torch.Tensor:
        if len(decoded) >= stop_after:
            raise KeyboardInterrupt
        decoded.append(path)
        return decode(path, *options)

    monkeypatch.setattr(pictures, "decode", count)
    return decoded


def test_an_interrupted_decoding_goes_on(
    read: Callable[..., RealData], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        decoding(patch, stop_after=13)  # in the fourth file: 5 + 2 + 5 are there
        with pytest.raises(KeyboardInterrupt) as stopped:
            read(0)
    (kept,) = stopped.value.__notes__
    assert kept.startswith("12 of 35 images are decoded and kept in ")
    decoded = decoding(monkeypatch)
    read(0)
    assert len(decoded) == len(set(decoded)) == 35 - 12


def test_a_class_whose_pictures_change_is_decoded_again_alone(
    read: Callable[..., RealData], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(0)
    decoded = decoding(monkeypatch)
    (folder / "train" / "cat" / "00002.jpg").unlink()
    after = read(0)
    assert {path.parent for path in decoded} == {folder / "train" / "cat"} and len(decoded) == 4
    assert len(after.train) == len(before.train) - 1
    assert after.fingerprint() != before.fingerprint()
    Image.new("RGB", (20, 20)).save(folder / "test" / "ant" / "00000.jpg")
    decoded.clear()
    assert read(0).test.x[:1].unique().tolist() == [0]
    assert len(decoded) == 3


def test_a_damaged_picture_or_class_is_named_before_it_costs_much(
    read: Callable[..., RealData], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "test" / "bee" / "00003.jpg"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(DdistError, match=r"00003\.jpg cannot be decoded \(.*\): mend or remove it"):
        read(0)
    broken.unlink()
    decoded = decoding(monkeypatch)
    read(0)
    assert {path.parent.name for path in decoded} <= {"bee", "cat"}  # the rest was kept
    (folder / "train" / "dog").mkdir()
    decoded.clear()
    with pytest.raises(DdistError, match=r"class 3 \(dog\) has no training image: put pictures"):
        read(0, size=11)
    assert not decoded


def test_a_file_that_is_damaged_is_decoded_again(
    read: Callable[..., RealData], caplog: pytest.LogCaptureFixture
) -> None:
    expected = read(0).train.x[:]
    for file in sorted((read(0).cache / "decoded").glob("*/000000.*.npy")):
        content = bytearray(file.read_bytes())
        content[-7] ^= 255
        file.write_bytes(content)
    assert torch.equal(read(0).train.x[:], expected)
    assert "decoded pictures' file" in caplog.text and "is damaged; it is made anew" in caplog.text


LIMIT = "\nfrom ddist.data.sources import pictures\npictures.SHARD_BYTES = 2**22\n"

KILL = """
import os, signal
from ddist.storage import sharing
write, written = sharing.write_kept, []
def write_some(path, content, what):
    if len(written) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path)
    write(path, content, what)
sharing.write_kept = write_some
"""

READ = """
import torch
from functools import partial
from pathlib import Path
from ddist.data import RealData
from ddist.data.sources import folder
data = RealData(
    name="pictures", source=partial(
        folder, folder=NAME, test=None, test_share=0.2, split_seed=0, in_memory=0, fit="crop",
        background="white", white=None,
    ),
    channels=None,
    size=256, normalize="mean_std", mean=None, std=None, subset=None, validation=0.1,
    augmentation="none", mirror=True, verify=True, download=False, skip_damaged=False,
    classes=None, seed=0, root=".", cache="cache")
def resident(field):
    return int(open("/proc/self/status").read().split(field)[1].split()[0]) / 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
before = resident("VmRSS:")
data.load().fingerprint()
for x, y in data.batches(data.train, 5): pass
for seed in range(5): data.batch(5, torch.Generator().manual_seed(seed))
print(resident("VmHWM:") - before, 3 * 256 * 256 * len(data.train) / 2**20)
raise SystemExit
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_images_and_a_kill_loses_one_file(
    ddist: Any, tmp_path: Path
) -> None:
    """Of four times as many images the peak of all resident memory, mapped files included, is the
    same."""
    for name, factor in (("small", 10), ("large", 40)):
        paint_all(tmp_path / name, factor, side=8)
    small = ddist(before="NAME = 'small'" + LIMIT + READ)
    assert small.code == 0, small.err
    shutil.rmtree(tmp_path / "cache")
    killed = ddist(before="NAME = 'large'" + LIMIT + KILL + READ)
    assert killed.code == -signal.SIGKILL
    done = list(tmp_path.glob("cache/decoded/*/*.npy"))
    times = {file: file.stat().st_mtime_ns for file in done}
    large = ddist(before="NAME = 'large'" + LIMIT + READ)
    assert large.code == 0, large.err
    assert len(done) == 4
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    (grown, size), (grown_more, size_more) = (
        map(float, each.out.split()) for each in (small, large)
    )
    # What the allocator keeps differs by up to 16 MB from run to run.
    assert size_more - size > 120 and grown_more - grown < 30


def test_a_teacher_of_another_class_order_gives_the_same_labels(ddist: Any, tmp_path: Path) -> None:
    """Its logits are put into the dataset's order; one of other classes is refused before anything
    is learned."""
    paint_all(tmp_path / "pictures")
    arguments = [
        "dataset=imagefolder", "dataset.source.folder=pictures", "dataset.source.in_memory=0",
        "dataset.size=12", "method=random", "ipc=1", "teacher=file", "teacher.store=true",
        "teacher.weights=teacher.pt", "network=mlp", "network.widths=[4]", "evaluation=knn",
        "paths.cache=cache",
    ]  # fmt: skip
    state = MLP(3, (3, 12, 12), [4], "relu").state_dict()
    order = [0, 2, 1]  # ant, cat, bee
    head = {name: w[order] for name, w in state.items() if name.startswith("head.")}
    teachers = {
        "ours": ({"state_dict": state, "class_names": ["ant", "bee", "cat"]}, ()),
        "theirs": ({"state_dict": state | head, "class_names": ["ant", "cat", "bee"]}, ()),
        "told": (state | head, ["teacher.class_names=[ant,cat,bee]"]),
    }
    labels = []
    for name, (content, words) in teachers.items():
        torch.save(content, tmp_path / "teacher.pt")
        done = ddist(*arguments, *words, f"hydra.run.dir={name}")
        assert (done.code, done.err) == (0, "")
        assert ("classes are put into the order" in done.out) == (name != "ours")
        labels.append(DistilledDataset.load(tmp_path / name / "distilled").labels)
    assert len(head) == 2 and labels[0].is_floating_point()
    assert not torch.allclose(labels[0], labels[0][:, order])
    for other in labels[1:]:
        torch.testing.assert_close(other, labels[0])
    done = ddist(*arguments, "teacher.class_names=[ant,cat,dog]", "hydra.run.dir=run")
    assert done.code == 1 and "(class 1 is 'cat' there and 'bee' here)" in done.err
    assert not (tmp_path / "run" / "distilled").exists()
