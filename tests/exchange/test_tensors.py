"""Sets in any of the files that the field's code leaves, read to the same images and labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ddist.errors import DdistError
from ddist.exchange.fits import images_per_class
from ddist.exchange.foreign import Foreign, read_dd
from ddist.exchange.tensors import read_tensors

X = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 3
SOFT = torch.linspace(-0.1, 0.9, 18).view(6, 3)
SHAPE = (3, 4, 5)


def torch_file(content: Any) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        torch.save(content, folder / "set.pt")
        return [folder / "set.pt"]

    return write


def npz(**arrays: np.ndarray) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        np.savez(folder / "set.npz", **arrays)
        return [folder / "set.npz"]

    return write


def two_files(images: str, labels: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        for name, content in ((images, X), (labels, Y)):
            if name.endswith("npy"):
                np.save(folder / name, content.numpy())
            elif name.endswith("safetensors"):
                save_file({"tensor": content}, folder / name)
            else:
                torch.save(content, folder / name)
        return [folder]

    return write


def parts(folder: Path) -> list[Path]:
    for k, rows in enumerate((slice(0, 2), slice(2, 5), slice(5, 6))):
        torch.save((X[rows], Y[rows]), folder / f"part_{9 + k}.pt")  # 9, 10, 11
    return [folder]


def image_parts(folder: Path) -> list[Path]:
    for k in range(2):
        torch.save(X[3 * k : 3 * k + 3], folder / f"images_{k}.pt")
        torch.save(Y[3 * k : 3 * k + 3], folder / f"labels_{k}.pt")
    return [folder]


WAYS: dict[str, Callable[[Path], list[Path]]] = {
    "a list": torch_file([X, Y]),
    "a tuple": torch_file((X, Y)),
    "a dict": torch_file({"images": X, "labels": Y}),
    "other names": torch_file({"X": X, "targets": Y, "acc": 0.5}),
    "as DC": torch_file({"data": [[X + 1, Y], [X, Y]]}),
    "several pairs": torch_file([[X + 1, Y], [X, Y]]),
    "numpy": npz(images=X.numpy(), labels=Y.numpy()),
    "channels last": npz(images=X.permute(0, 2, 3, 1).numpy(), labels=Y.numpy()),
    "two of torch's": two_files("images_best.pt", "labels_best.pt"),
    "two of numpy's": two_files("x.npy", "y_targets.npy"),
    "safetensors": two_files("syn.safetensors", "syn_label.safetensors"),
    "parts": parts,
    "parts of both": image_parts,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_set(way: str, tmp_path: Path) -> None:
    found = read_tensors(WAYS[way](tmp_path), [], 1, SHAPE)
    assert torch.equal(found.images, X) and torch.equal(found.labels, Y)
    assert not found.pixels and found.step_sizes is None


def test_labels_in_a_file_that_is_named(tmp_path: Path) -> None:
    torch.save(X, tmp_path / "a.pt")
    np.savez(tmp_path / "b.npz", arr_0=SOFT.numpy())
    found = read_tensors([tmp_path / "a.pt"], [tmp_path / "b.npz"], 0, SHAPE)
    assert torch.equal(found.images, X)
    torch.testing.assert_close(found.labels, SOFT)


def test_eight_bits_are_pixels(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8)
    found = read_tensors(torch_file([images, Y])(tmp_path), [], 0, SHAPE)
    assert found.pixels
    torch.testing.assert_close(found.images, images.float() / 255)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (X, "a dict of both, or one of them in each of several files, not a tensor [6, 3, 4, 5]"),
        ({"pictures": X, "labels": Y}, "not a dict of pictures, labels"),
        ([X, Y, Y], "not a list of 3"),
        ([X, Y[:4]], "6 images need as many labels"),
        ([[X, Y]], "index is from 0 to 0, not 1"),
    ],
)
def test_other_contents_are_one_sentence(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DdistError) as error:
        read_tensors(torch_file(content)(tmp_path), [], 1, SHAPE)
    assert said in str(error.value)


def results(folder: Path, content: Any) -> Foreign:
    torch.save(content, folder / "results.pth")
    return read_dd(folder)


def test_results_of_dd_are_steps_that_come_again_in_every_epoch(tmp_path: Path) -> None:
    steps = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    sizes = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    content = [(*steps[s], sizes[e, s]) for e in range(3) for s in range(2)]
    found = results(tmp_path, content)
    assert torch.equal(found.images, X) and torch.equal(found.labels, Y)
    assert found.step_sizes is not None and torch.equal(found.step_sizes, sizes)
    assert found.step_index is not None and found.step_index.tolist() == [0, 0, 0, 1, 1, 1]
    # no image comes again: one epoch
    once = results(tmp_path, content[:2])
    assert once.step_sizes is not None and torch.equal(once.step_sizes, sizes[:1])
    with pytest.raises(DdistError, match="above 0 was expected"):
        results(tmp_path, [(X, Y, torch.tensor(-1.0))])
    with pytest.raises(DdistError, match=r"a list of .images, labels, step size., not a list of 2"):
        results(tmp_path, [X, Y])


def test_the_images_of_a_class_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert images_per_class(Y, 3, Path("a.pt"), None) == 2 and not caplog.messages
    assert images_per_class(Y, 3, Path("a.pt"), 2) == 2
    with pytest.raises(DdistError, match=r"2 to 2 images of a class \(6 in all\), and ipc=3 says"):
        images_per_class(Y, 3, Path("a.pt"), 3)
    assert images_per_class(Y[:5], 3, Path("a.pt"), None) == 2
    assert "1 to 2 images of a class (5 in all)" in caplog.text
