"""Weights of other people's files, whatever they are wrapped in."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddist.networks.files import class_names_in, read_weights_file, weights_for

STATE = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
WANTED = {name: w + 1 for name, w in STATE.state_dict().items()}
OTHERS = {name: w * 5 for name, w in WANTED.items()}


def under(prefix: str, state: dict[str, Tensor] = WANTED) -> dict[str, Tensor]:
    return OrderedDict((f"{prefix}{name}", w) for name, w in state.items())


WRAPPED: dict[str, Any] = {
    "plain": WANTED,
    "DataParallel": under("module."),
    "torch.compile": under("_orig_mod."),
    "both, and Lightning": {"state_dict": under("model._orig_mod.module."), "epoch": 3},
    "within": {name.replace("3.", "3.module."): w for name, w in WANTED.items()},
    "Lightning with a loss": {"state_dict": under("net.") | {"loss.weight": torch.ones(3)}},
    "trainer": {"model_state_dict": WANTED, "optimizer_state_dict": {"state": {0: OTHERS}}},
    "dict in dict": {"model": {"state_dict": under("model.model.")}, "args": [1]},
    "average beside": {"model_ema": OTHERS, "ema": OTHERS, "model": WANTED},
    "average by prefix": {"state_dict": under("ema.", OTHERS) | under("model.")},
    "average alone": {"ema": {"weights": under("module.")}, "updates": 7},
    "averaged model": under("module.") | {"n_averaged": torch.tensor(3)},
    "any word": {"student": under("backbone.")},
    "without counts": {n: w for n, w in WANTED.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_taken_off(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    found = weights_for(read_weights_file(tmp_path / "a.pt")[0], WANTED)
    assert list(found) == list(WANTED)
    assert all(torch.equal(found[name], w) for name, w in WANTED.items())


def test_a_network_may_itself_have_such_names() -> None:
    wanted = under("module.")
    for content in (wanted, under("model.", wanted)):
        assert list(weights_for(content, wanted)) == list(wanted)


@pytest.mark.parametrize(("content", "reason"), [
    ({"epoch": 3, "lr": 0.1}, "it holds no weights by name, only epoch, lr$"),
    ([1], "it holds no weights by name, a list$"),
    ({"model": {f"layer{k}.weight": torch.ones(2) for k in range(5)}},
     r"it holds layer0\.weight, layer1\.weight, layer2\.weight and 2 more, where 0\.weight, "
     r"0\.bias, 1\.weight and 6 more are wanted"),
    ({n: w for n, w in WANTED.items() if not n.startswith("3")}, r"it lacks 3\.weight, 3\.bias$"),
    (under("model.") | {"model.4.weight": torch.ones(3)}, r"it has 4\.weight besides$"),
    (WANTED | {"3.weight": torch.ones(7, 2)}, r"3\.weight is \[7, 2\] there and \[3, 2\] here$"),
    ({"a": WANTED, "b": under("net.")}, r"it holds several such networks, (a, b\.net|b\.net, a): "),
])  # fmt: skip
def test_what_a_file_holds_is_said(content: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weights_for(content, WANTED)


def test_a_shape_may_be_open() -> None:
    content = WANTED | {"3.weight": torch.ones(7, 2)}
    assert weights_for(content, WANTED, any_shape=["3.weight"])["3.weight"].shape == (7, 2)


def test_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    numbers = [np.float64(91.2), np.float32(1.5), np.int64(3), np.uint8(4), np.bool_(True)]
    torch.save({"model": WANTED, "best": numbers}, tmp_path / "a.pth")
    assert read_weights_file(tmp_path / "a.pth")[0]["best"] == numbers


class Evil:
    """What would run code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_nothing_else_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, kind in (
        (Evil(), "print"),
        (STATE, "Sequential"),
        (np.array([Evil()], dtype=object), "_reconstruct"),
        ({"model": WANTED, "where": Path("x")}, "Path"),
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=rf"it holds a pickled [\w.]*{kind}, which would run"):
            read_weights_file(tmp_path / "a.pth")
    assert capsys.readouterr().out == ""


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.zeros(2), train_labels=np.zeros(2))
    with pytest.raises(
        ValueError, match=r"but an archive of train_images\.npy, train_labels\.npy$"
    ):
        read_weights_file(tmp_path / "a.npz")


def test_class_names_beside_the_weights() -> None:
    assert class_names_in({"ckpt": {"state_dict": WANTED, "class_names": ["a", 1]}}) == ["a", "1"]
    assert class_names_in(WANTED) is None and class_names_in([1]) is None
