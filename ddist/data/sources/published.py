"""The published datasets that torchvision knows, in its own folder layout.

torchvision downloads and, but for CIFAR, reads; the checksums are compared here, because
torchvision either insists on them or ignores them, and a mirrored copy must be readable when the
user says so (``dataset.verify=false``).
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ddist.data.sources.base import Arrays, Request
from ddist.data.sources.cifar import read_cifar_file
from ddist.errors import DdistError

Pair = tuple[Tensor, Tensor]  # uint8 [N, C, H, W], int64 [N]
DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Published:
    """How one dataset lies on disk and is read."""

    files: dict[str, str]  # path under the root -> md5
    download: Callable[[Path], object]  # fetches everything that is missing under the root
    read: Callable[[Path, bool], Pair]  # (root, train) -> images and labels
    class_names: Callable[[Path], tuple[str, ...]]


def published(request: Request, dataset: str) -> Arrays:
    """Read ``dataset`` from ``request.root``; first download it if it is missing and if allowed to.

    Raises:
        DdistError: the name is unknown; files are missing with ``download=false``; the download
            failed; a checksum differs with ``verify=true``; a file is unreadable.
    """
    known = _known()
    if dataset not in known:
        raise DdistError(f"Unknown dataset {dataset!r}: expected one of {', '.join(known)}.")
    entry = known[dataset]
    _fetch(request, dataset, entry)
    if request.verify:
        _verify(request.root, dataset, entry.files)
    try:
        x_train, y_train = entry.read(request.root, True)
        x_test, y_test = entry.read(request.root, False)
        return Arrays(x_train, y_train, x_test, y_test, entry.class_names(request.root))
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, pickle.PickleError) as error:
        raise DdistError(
            f"{dataset} under {request.root} cannot be read ({error}): the files are damaged or "
            "not what their names say; delete them to download them again."
        ) from error


def _fetch(request: Request, dataset: str, entry: Published) -> None:
    root = request.root
    missing = _first_missing(root, entry.files)
    if missing is None:
        return
    if not request.download:
        raise DdistError(
            f"{dataset} is not in {root}: expected {root / missing}; set paths.data "
            "(DDIST_DATA) to the folder that holds it, or dataset.download=true."
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{dataset}.lock"):
            if _first_missing(root, entry.files) is not None:
                entry.download(root)
    except (OSError, RuntimeError) as error:
        raise DdistError(
            f"{dataset} could not be downloaded to {root} ({error}); put its files there yourself "
            f"({', '.join(entry.files)}) or set paths.data (DDIST_DATA) to where they are."
        ) from error


def _first_missing(root: Path, files: dict[str, str]) -> str | None:
    return next((name for name in files if not (root / name).is_file()), None)


def _verify(root: Path, dataset: str, files: dict[str, str]) -> None:
    from torchvision.datasets.utils import check_md5

    for name, md5 in files.items():
        if not check_md5(root / name, md5):
            raise DdistError(
                f"{dataset}: the checksum of {root / name} differs from the published one; set "
                "dataset.verify=false to read this copy as it is, or delete the file to download "
                "it again."
            )


def torchvision_datasets() -> ModuleType:
    """Import ``torchvision.datasets``. It is imported late, so that a torchvision built for another
    torch is an error of those datasets alone that need it."""
    try:
        import torchvision.datasets
    except (ImportError, RuntimeError) as error:  # a torch of another build: RuntimeError at import
        raise DdistError(
            f"torchvision cannot be imported ({error}): install torch and torchvision of the same "
            "build, for example both from PyPI."
        ) from error
    datasets: ModuleType = torchvision.datasets
    return datasets


def _known() -> dict[str, Published]:
    tv = torchvision_datasets()
    return {
        "mnist": _mnist(tv.MNIST, MNIST_FILES, DIGITS),
        "fashion_mnist": _mnist(
            tv.FashionMNIST, FASHION_MNIST_FILES, tuple(tv.FashionMNIST.classes)
        ),
        "usps": Published(
            files={name: md5 for _, name, md5 in tv.USPS.split_list.values()},
            download=lambda root: [tv.USPS(root, train=t, download=True) for t in (True, False)],
            read=lambda root, train: _grey(tv.USPS(root, train=train)),
            class_names=lambda root: DIGITS,
        ),
        "svhn": Published(
            files={tv.SVHN.split_list[s][1]: tv.SVHN.split_list[s][2] for s in ("train", "test")},
            download=lambda root: [tv.SVHN(root, s, download=True) for s in ("train", "test")],
            read=_read_svhn,
            class_names=lambda root: DIGITS,
        ),
        "cifar10": _cifar(tv.CIFAR10),
        "cifar100": _cifar(tv.CIFAR100),
    }


# torchvision knows the checksums of the archives only; these are of the files it unpacks.
MNIST_FILES = {
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST_FILES = {
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def _mnist(cls: Any, files: dict[str, str], class_names: tuple[str, ...]) -> Published:
    return Published(
        files=files,
        download=lambda root: cls(root, download=True),
        read=lambda root, train: _grey(cls(root, train=train)),
        class_names=lambda root: class_names,
    )


def _grey(dataset: Any) -> Pair:
    x = torch.as_tensor(dataset.data).unsqueeze(1)
    return x, torch.as_tensor(dataset.targets).long()


def _read_svhn(root: Path, train: bool) -> Pair:
    class Unchecked(torchvision_datasets().SVHN):  # type: ignore[misc]
        def _check_integrity(self) -> bool:
            return True  # done above, and only where the user wants it

    data = Unchecked(root, split="train" if train else "test")
    return torch.from_numpy(np.ascontiguousarray(data.data)), torch.from_numpy(data.labels)


def _cifar(cls: Any) -> Published:
    folder = cls.base_folder
    label_key = "labels" if cls.__name__ == "CIFAR10" else "fine_labels"

    def read(root: Path, train: bool) -> Pair:
        names = [name for name, _ in (cls.train_list if train else cls.test_list)]
        batches = [read_cifar_file(root / folder / name) for name in names]
        x = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        y = [label for batch in batches for label in batch[label_key]]
        return torch.from_numpy(x), torch.tensor(y)

    files = dict([*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])])
    return Published(
        files={f"{folder}/{name}": md5 for name, md5 in files.items()},
        download=lambda root: cls(root, download=True),
        read=read,
        class_names=lambda root: tuple(
            read_cifar_file(root / folder / cls.meta["filename"])[cls.meta["key"]]
        ),
    )
