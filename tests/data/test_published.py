import gzip
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from scipy.io import savemat

from ddist.data import RealData
from ddist.errors import DdistError

Factory = Callable[..., RealData]
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(256, size=(20, 3, 32, 32), dtype=np.uint8)


# -- the real files ------------------------------------------------------------------------------


@pytest.mark.slow
def test_mnist_is_what_torchvision_reads(real_data: Factory, data_dir: Path) -> None:
    data = real_data("mnist", root=data_dir).load()  # checksums compared
    assert (len(data.train), len(data.test), data.image_shape) == (60000, 10000, (1, 28, 28))
    for train, split in ((True, data.train), (False, data.test)):
        reference = torchvision.datasets.MNIST(data_dir, train=train)
        order = torch.argsort(reference.targets, stable=True)
        assert torch.equal(split.x[:, 0], reference.data[order])
        assert torch.equal(split.y, reference.targets[order])
    x = data.normalization(data.train.x)
    assert abs(float(x.mean())) < 1e-3  # the published mean and std are MNIST's
    assert abs(float(x.std()) - 1) < 1e-3


def test_fashion_mnist_is_read_and_named(real_data: Factory, data_dir: Path) -> None:
    data = real_data("fashion_mnist", root=data_dir).load()
    assert data.train.counts == (6000,) * 10
    assert data.class_names[9] == "Ankle boot"
    x = data.normalization(data.train.x)
    assert abs(float(x.mean())) < 1e-2
    assert abs(float(x.std()) - 1) < 1e-2


@pytest.mark.parametrize(("name", "file"), [("cifar10", "data_batch_1"), ("usps", "usps.bz2")])
def test_a_mirrored_copy_needs_verify_false(
    real_data: Factory, data_dir: Path, name: str, file: str
) -> None:
    from torchvision.datasets.utils import check_md5

    published = {"data_batch_1": torchvision.datasets.CIFAR10.train_list[0][1],
                 "usps.bz2": torchvision.datasets.USPS.split_list["train"][2]}[file]  # fmt: skip
    folder = data_dir / "cifar-10-batches-py" if name == "cifar10" else data_dir
    if check_md5(folder / file, published):
        pytest.skip(f"{file} is the published one here")
    with pytest.raises(DdistError, match=rf"checksum of .*{file} differs.*dataset\.verify=false"):
        real_data(name, root=data_dir).load()


def test_cifar10_is_what_torchvision_reads(
    real_data: Factory, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = real_data("cifar10", root=data_dir, verify=False).load()
    assert data.train.counts == (5000,) * 10
    assert data.class_names[:2] == ("airplane", "automobile")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    reference = torchvision.datasets.CIFAR10(data_dir, train=False)
    order = torch.argsort(torch.tensor(reference.targets), stable=True)
    assert torch.equal(data.test.x, torch.from_numpy(reference.data)[order].permute(0, 3, 1, 2))
    assert data.class_names == tuple(reference.classes)


@pytest.mark.slow
def test_usps_is_read_and_resized(real_data: Factory, data_dir: Path) -> None:
    data = real_data("usps", root=data_dir, verify=False, size=28).load()
    assert (len(data.train), len(data.test), data.image_shape) == (7291, 2007, (1, 28, 28))
    assert data.train.counts[:3] == (1194, 1005, 731)


# -- files made here -----------------------------------------------------------------------------


def write_mnist(root: Path) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        labels = bytes(range(10)) * 2
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 20) + labels)
        pixels = RANDOM.integers(256, size=(20, 28, 28), dtype=np.uint8).tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, 20, 28, 28) + pixels
        )
    return folder


def write_cifar100(root: Path, **changes: Any) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    batch = {"data": IMAGES.reshape(20, -1), "fine_labels": [1, 0] * 10, **changes}
    for part in ("train", "test"):
        (folder / part).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bee"]}))
    return folder


def test_cifar100_layout(real_data: Factory, tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    data = real_data("cifar100", verify=False).load()
    assert data.class_names == ("apple", "bee")
    assert torch.equal(data.train.x, torch.from_numpy(np.concatenate([IMAGES[1::2], IMAGES[::2]])))


def test_svhn_layout(real_data: Factory, tmp_path: Path) -> None:
    labels = np.array([10, *range(1, 10)] * 2, dtype=np.uint8)[:, None]  # 10 stands for the digit 0
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": IMAGES.transpose(2, 3, 1, 0), "y": labels})
    with pytest.raises(DdistError, match="checksum"):
        real_data("svhn").load()
    data = real_data("svhn", verify=False).load()
    assert torch.equal(data.train.x[:2], torch.from_numpy(IMAGES[[0, 10]]))
    assert data.train.counts == (2,) * 10


class Command:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


def test_a_pickle_that_wants_to_run_something_is_refused(
    real_data: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar100(tmp_path, extra=Command())
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("the file's command ran"))
    with pytest.raises(DdistError, match=r"cannot be read .*wants to run posix\.system"):
        real_data("cifar100", verify=False).load()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1]), pickle.dumps({})])
def test_damaged_files_are_named(real_data: Factory, tmp_path: Path, content: bytes) -> None:
    (write_cifar100(tmp_path) / "train").write_bytes(content)
    with pytest.raises(DdistError, match=rf"cifar100 under {tmp_path} cannot be read"):
        real_data("cifar100", verify=False).load()


def test_truncated_mnist_and_usps_are_named(real_data: Factory, tmp_path: Path) -> None:
    images = write_mnist(tmp_path) / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:5000])
    with pytest.raises(DdistError, match=r"mnist under .* cannot be read"):
        real_data("mnist", verify=False).load()
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(b"no bz2")
    with pytest.raises(DdistError, match=r"usps under .* cannot be read"):
        real_data("usps", verify=False).load()


def test_missing_files_are_named_and_the_network_is_left_alone(
    real_data: Factory, tmp_path: Path
) -> None:
    for name in ("mnist", "fashion_mnist", "usps", "svhn", "cifar10", "cifar100"):
        with pytest.raises(DdistError, match=rf"{name} is not in {tmp_path}.*download=true"):
            real_data(name).load()


def test_a_download_that_fails_says_what_to_do(
    real_data: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    for name in ("mnist", "cifar10"):
        with pytest.raises(DdistError, match=rf"{name} could not be downloaded.*DDIST_DATA"):
            real_data(name, download=True).load()


def test_what_is_missing_is_downloaded_once(
    real_data: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    folder = write_mnist(mirror)
    fetched = []

    def serve(url: str, download_root: str, filename: str, md5: str) -> None:
        fetched.append(filename)
        archive = folder / Path(filename).stem
        (Path(download_root) / Path(filename).stem).write_bytes(
            gzip.decompress(gzip.compress(archive.read_bytes()))
        )

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", serve)
    for _ in range(2):
        data = real_data("mnist", root=tmp_path / "data", download=True, verify=False).load()
    assert len(data.train) == 20
    assert len(fetched) == 4


def test_a_copy_whose_checksum_differs_is_never_overwritten(
    real_data: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *args: pytest.fail("downloads"))
    before = (write_cifar100(tmp_path) / "train").read_bytes()
    with pytest.raises(DdistError, match="checksum"):
        real_data("cifar100", download=True).load()
    assert (tmp_path / "cifar-100-python" / "train").read_bytes() == before


def test_an_unknown_name_lists_the_known_ones(real_data: Factory) -> None:
    with pytest.raises(DdistError, match="Unknown dataset 'cifar11': expected one of mnist,"):
        real_data("mnist", source={"dataset": "cifar11"}).load()


def test_a_broken_torchvision_says_what_to_install(
    real_data: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    importer = builtins.__import__

    def broken(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return importer(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(DdistError, match="torch and torchvision of the same build"):
        real_data("mnist").load()


def test_the_folder_may_be_read_only(real_data: Factory, tmp_path: Path) -> None:
    """A shared, complete copy needs no lock and no temporary file."""
    write_mnist(tmp_path / "shared")
    os.chmod(tmp_path / "shared", 0o555)
    try:
        assert len(real_data("mnist", root=tmp_path / "shared", verify=False).load().train) == 20
        assert [path.name for path in (tmp_path / "shared").iterdir()] == ["MNIST"]
    finally:
        os.chmod(tmp_path / "shared", 0o755)
        shutil.rmtree(tmp_path / "shared")
