"""ddist.distill and ddist.evaluate do what the command does."""

import inspect
import json
import os
import pty
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from pytorch_lightning import Callback
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

import ddist
from ddist.cli import calls
from ddist.cli.calls import value_in_words
from ddist.data.sources.memory import arrays_of as arrays_with
from ddist.networks.given import given
from ddist.stages.bars import bar_console, bars_alone
from ddist.tasks.config import composed_apart

pytestmark = pytest.mark.slow  # each composes, builds or trains

QUICK: dict[str, Any] = {
    "steps": 3, "threads": 1, "network": "mlp", "evaluation.num_networks": 2,
    "evaluation.epochs": 3, "reference.coreset.select": None,
}  # fmt: skip


def arrays_of(train: Any, test: Any, size: int | None) -> Any:
    return arrays_with(train, test, size, 0.2, 0)


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DDIST_CACHE", str(tmp_path / "cache"))
    yield
    assert not GlobalHydra.instance().is_initialized() and HydraConfig.instance().cfg is None


@pytest.fixture
def shapes() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Three classes of 20 images [12, 12], bright in a third of their own."""
    random = np.random.default_rng(0)
    x = random.integers(0, 60, (60, 12, 12), dtype=np.uint8)
    y = np.repeat(np.arange(3), 20)
    for image, label in zip(x, y, strict=True):
        image[:, 4 * label : 4 * label + 4] += 150
    return x, y


class Pictures(Dataset[tuple[Image.Image, int]]):
    """PIL pictures and labels, as torchvision's folders give them."""

    classes = ("left", "middle", "right")

    def __init__(self, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.x[index]).convert("RGB"), int(self.y[index])


def test_arrays_are_distilled_and_evaluated(shapes: Any) -> None:
    distilled = ddist.distill(shapes, method="dm", ipc=2, **QUICK)
    assert distilled.images.shape == (6, 1, 12, 12)
    (row,) = distilled.results["evaluation"]
    assert row["num_networks"] == 2 and row["network"] == "mlp"
    assert distilled.results["data"]["test_split"]["drawn_share"] == 0.2
    quick = {"evaluation.num_networks": 2, "evaluation.epochs": 30, "threads": 1}
    (again,) = ddist.evaluate(distilled, shapes, **quick)
    assert again["accuracy_mean"] > 0.9  # bright thirds are easy to tell apart


def test_the_same_call_twice_and_the_command_give_the_same_images(
    shapes: Any, tmp_path: Path
) -> None:
    first, second = (ddist.distill(shapes, method="dm", ipc=1, **QUICK) for _ in range(2))
    assert torch.equal(first.images, second.images)
    x, y = shapes
    held_out = arrays_of((x, y), None, None)
    np.savez(
        tmp_path / "shapes.npz",
        x_train=held_out.x_train[:, 0], y_train=held_out.y_train,
        x_test=held_out.x_test[:, 0], y_test=held_out.y_test,
    )  # fmt: skip
    by_file = ddist.distill(
        "arrays",
        method="dm",
        ipc=1,
        **QUICK,
        **{"dataset.source.file": str(tmp_path / "shapes.npz")},
    )
    assert torch.equal(first.images, by_file.images)


def test_datasets_keep_their_class_names_and_are_the_same_as_their_arrays(shapes: Any) -> None:
    x, y = shapes
    pictures = arrays_of(Pictures(x, y), None, None)
    assert pictures.class_names == ("left", "middle", "right")
    assert pictures.x_train.shape == (48, 3, 12, 12) and len(pictures.y_test) == 12
    assert torch.bincount(pictures.y_test).tolist() == [4, 4, 4]
    tensors = TensorDataset(torch.from_numpy(x).unsqueeze(1) / 255, torch.from_numpy(y))
    plain, same = arrays_of(tensors, tensors, None), arrays_of(Pictures(x, y), tensors, None)
    assert torch.equal(plain.x_train, same.x_train[:, :1])
    some = arrays_of(Subset(Pictures(x, y), range(0, 60, 2)), Pictures(x, y), None)
    assert some.class_names == pictures.class_names
    assert (len(some.y_train), len(some.y_test)) == (30, 60)


def test_a_network_may_be_a_function(shapes: Any) -> None:
    made = []

    def small(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
        made.append(image_shape)
        channels, height, width = image_shape
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, 5),
            nn.ReLU(),
            nn.Linear(5, num_classes),
        )

    distilled = ddist.distill(shapes, method="dm", ipc=1, **{**QUICK, "network": small})
    assert distilled.results["network"] == "small" and set(made) == {(1, 12, 12)}


def test_nothing_is_left_but_where_it_is_asked_for(shapes: Any, tmp_path: Path) -> None:
    """Networks that are trained before the first step are in the cache; dm trains none."""
    ddist.distill(shapes, method="dm", ipc=1, folder=tmp_path / "run", **QUICK)
    assert (tmp_path / "run" / "results.json").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "dmm"}, "did you mean dm"),
        ({"ipc": 0}, "at least 1"),
        ({"stps": 3}, "did you mean steps"),
        ({"budget": "soon"}, "A time such as"),
    ],
)
def test_mistakes_are_ddist_errors(arguments: dict[str, Any], said: str, shapes: Any) -> None:
    with pytest.raises(ddist.DdistError, match=said):
        ddist.distill(shapes, **arguments)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("/nowhere", "no folder /nowhere"),
        (3, "of type int"),
        ((torch.zeros(4, 8, 8), [0, 1]), "4 images and 2 labels"),
        (TensorDataset(torch.randn(4, 1, 8, 8), torch.arange(4)), r"outside \[0, 1\]"),
        (TensorDataset(torch.zeros(4, 1, 8, 8)), "pairs"),
    ],
)
def test_odd_data_is_named(data: Any, said: str) -> None:
    with pytest.raises(ddist.DdistError, match=said):
        ddist.distill(data, method="dm")


def test_pictures_of_several_sizes_need_one(shapes: Any) -> None:
    class Odd(Pictures):
        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            picture, label = super().__getitem__(index)
            return picture.resize((12 + index % 2, 14)), label

    with pytest.raises(ddist.DdistError, match="from 12 to 14 pixels"):
        ddist.distill(Odd(*shapes), method="dm")
    x: Tensor = arrays_of(Odd(*shapes), None, 8).x_train  # type: ignore[assignment]
    assert x.shape[1:] == (3, 8, 8)


def test_the_same_images_are_drawn_for_testing_as_of_a_folder(shapes: Any, tmp_path: Path) -> None:
    x, y = shapes
    for index, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "pictures" / Pictures.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert("RGB").save(folder / f"{index:03d}.png")
    by_folder = ddist.distill(tmp_path / "pictures", method="dm", ipc=1, **QUICK)
    by_dataset = ddist.distill(Pictures(x, y), method="dm", ipc=1, **QUICK)
    assert torch.equal(by_folder.images, by_dataset.images)
    assert by_folder.results["data"] == by_dataset.results["data"]


def test_a_call_keeps_freed_memory_as_the_command_does(
    shapes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without, it takes twice as long."""
    kept: list[bool] = []
    monkeypatch.setattr(calls, "keep_freed_memory", lambda: kept.append(True))
    ddist.distill(shapes, method="dm", ipc=1, **QUICK)
    assert kept


def test_defaults_are_the_commands() -> None:
    defaults = inspect.signature(ddist.distill).parameters
    cfg = composed_apart([])
    assert all(defaults[name].default == cfg[name] for name in ("ipc", "budget"))


def test_a_network_of_a_past_process_is_a_sentence() -> None:
    with pytest.raises(ddist.DdistError, match="was a function in Python"):
        given("small", 3, (1, 12, 12))


NOTEBOOK = Path(__file__).parents[2] / "docs" / "own-pictures.ipynb"


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    """Its cells one after the other, without a kernel: they are plain Python."""
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["distilled"].results["evaluation"][0]["accuracy_mean"] > 0.7
    assert names["accuracy"] > 0.7  # of the plain loop, too
    assert names["rows"][0]["network"] == "mlp"


BARS = """
import ddist, torch
x = torch.randint(256, (80, 6, 6), dtype=torch.uint8)
settings = {"evaluation.num_networks": 2, "evaluation.epochs": 1, "network": "mlp"}
ddist.distill((x, torch.arange(80) % 4), method="dm", ipc=1, steps=3, **settings)
print("done")
"""


@pytest.mark.slow
def test_a_terminal_shows_bars_and_no_table() -> None:
    shown = []

    def read(terminal: int) -> bytes:
        shown.append(os.read(terminal, 65536))
        return shown[-1]

    status = pty.spawn([sys.executable, "-c", BARS], read)
    text = b"".join(shown).decode()
    assert status == 0 and "distilling" in text and "3/3" in text and "done" in text
    assert "trained on" not in text


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_shows_bars_where_it_can(monkeypatch: pytest.MonkeyPatch, widgets: bool) -> None:
    found = object() if widgets else None
    monkeypatch.setattr("ddist.stages.bars.find_spec", lambda name: found)
    monkeypatch.setattr("ddist.stages.bars.Console", lambda: Console(force_jupyter=True))
    with bars_alone():
        assert (bar_console() is not None) == widgets
    assert bar_console() is None  # a file


@pytest.mark.parametrize(
    "value",
    [
        "a=b, c", "it's \\ [x\\", "", True, None, 3, 0.5, [1, "b c", None], [],
        {"_target_": "a.B", "lr": {"images": 0.01}, "names": ["x, y"]},
    ],
)  # fmt: skip
def test_values_are_read_back_as_they_were(value: Any) -> None:
    override = OverridesParser.create().parse_override(f"key={value_in_words(value)}")
    assert override.value() == value


def interrupt_after(step: int) -> dict[str, Any]:
    """Return settings of a callback that sends SIGINT after that outer step."""
    return {"+callbacks.signal": {"_target_": f"{__name__}.Signal", "step": step}}


class Signal(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_call_that_is_interrupted_keeps_the_images_and_goes_on(shapes: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    settings = {"method": "dm", "ipc": 1, **QUICK, "steps": 30}
    with pytest.raises(KeyboardInterrupt, match="Stopped: the images so far are in ") as stopped:
        ddist.distill(shapes, **settings, **interrupt_after(5))
    assert signal.getsignal(signal.SIGINT) is before
    folder = Path(re.search("folder='(.*)'", str(stopped.value))[1])  # type: ignore[index]
    try:
        kept = ddist.load(folder / "distilled")
        assert kept.meta["steps"] == 6  # what sends the signal comes after what stops
        assert kept.images.shape == (3, 1, 12, 12)
        on = ddist.distill(shapes, folder=folder, **settings)
    finally:
        shutil.rmtree(folder)
    assert on.meta["steps"] == 30
    assert torch.equal(on.images, ddist.distill(shapes, **settings).images)


def test_a_call_that_is_interrupted_early_leaves_nothing(
    shapes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted_tidying(*_: Any, **__: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("tidying up")  # as omegaconf does

    monkeypatch.setattr("ddist.tasks.distill.build_run", interrupted_tidying)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt, match="nothing was finished yet"):
        ddist.distill(shapes, method="dm", ipc=1, **QUICK)
    assert not list(tmp_path.glob("ddist-*"))
    monkeypatch.setattr("ddist.tasks.distill.build_run", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ddist.distill(shapes, method="dm", ipc=1, **QUICK)
    assert not list(tmp_path.glob("ddist-*"))
