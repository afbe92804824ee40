"""Every line of Python in the documents runs, and the methods of adding-a-method.md learn."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

import ddist
from tests.conftest import QUICK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(python|yaml)\n(.*?)^```", re.S | re.M)
FILE = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")
SMALL = {  # runs that the documents give minutes
    "steps": 2,
    "budget": None,
    "evaluation.num_networks": 1,
    "evaluation.epochs": 2,
    "reference.coreset.select": None,
    "network.width": 8,
}


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return [body for name, body in BLOCK.findall(text) if name == language]


@pytest.fixture
def in_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have ``ddist.distill`` and ``ddist.evaluate`` end in seconds, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIST_CACHE", str(tmp_path / "cache"))
    distill, evaluate = ddist.distill, ddist.evaluate

    def small(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
        return lambda *args, **words: function(*args, **(words | options))

    monkeypatch.setattr(ddist, "distill", small(distill, SMALL))
    monkeypatch.setattr(ddist, "evaluate", small(evaluate, {"evaluation.num_networks": 1,
                                                            "evaluation.epochs": 2}))  # fmt: skip
    return tmp_path


def digits() -> tuple[Tensor, Tensor]:
    """Return 1,797 pictures [N, 1, 8, 8] in [0, 1] and their classes."""
    pictures, classes = load_digits(return_X_y=True)
    return torch.tensor(pictures).float().view(-1, 1, 8, 8) / 16, torch.tensor(classes)


def test_readme_trains_on_a_set_that_is_normalised() -> None:
    (code,) = blocks("README.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 16
    x, y = digits()
    accuracies = []
    for text in (code, code.replace("distilled.normalize(test_pixels)", "test_pixels")):
        torch.manual_seed(0)
        names = {"test_pixels": x}
        exec(text, names)
        accuracies.append(float((names["predicted"] == y).float().mean()))
    assert accuracies[0] > max(0.9, accuracies[1]), accuracies


def test_from_other_code_runs(in_small: Path) -> None:
    names: dict[str, Any] = {}
    for code in blocks("docs/from-other-code.md", "python"):
        exec(code, names)
    assert names["rows"][0]["num_networks"] == 1
    assert names["pixels"].shape == (10, 1, 28, 28)
    assert len(names["steps"]) >= 1


def test_own_pictures_runs(in_small: Path) -> None:
    x, y = digits()
    for i in range(200):
        place = in_small / "PICTURES" / f"class{int(y[i])}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[i, 0] * 255).byte().numpy()).save(place / f"{i}.png")
    dataset = torch.utils.data.TensorDataset(x[:200], y[:200])
    names = {
        "x": x[:200], "y": y[:200], "dataset": dataset, "test": (x[200:300], y[200:300]),
        "MyNetwork": lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)),
    }  # fmt: skip
    for code in blocks("docs/own-pictures.md", "python"):
        exec(code, names)
    assert len(names["rows"]) == 1


def test_uses_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = digits()

    def train_loop(network: nn.Module, batches: Any, epochs: int) -> None:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(epochs):
            for images, labels in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()
                optimizer.step()

    names: dict[str, Any] = {
        "pytest": pytest, "MNIST": lambda *args, **options: options, "train_loop": train_loop,
        "Sequential": nn.Sequential, "Flatten": nn.Flatten, "Linear": nn.Linear,
        "DataLoader": torch.utils.data.DataLoader,
    }  # fmt: skip
    for code in blocks("docs/uses.md", "python"):
        exec(code, names)
    train = ddist.ReadySet("digits-1")
    pages = [Image.fromarray((image[0] * 255).byte().numpy()) for image in x]
    pictures = torch.stack([train.transform(page) for page in pages])
    names["digits_test"] = None
    names["accuracy"] = lambda network, _: (network(pictures).argmax(1) == y).float().mean()
    names["test_the_loop_learns"](train)
    assert callable(names["test"]["transform"])


@pytest.fixture
def written(ddist: Any) -> Path:
    """Write the files of adding-a-method.md into the folder of the command."""
    for language in ("python", "yaml"):
        for body in blocks("docs/adding-a-method.md", language):
            match = FILE.match(body)
            assert match is not None, body
            file = ddist.folder / match[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body.partition("\n")[2])
    return Path(ddist.folder)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("mean_abs", ()),
        ("trajectory_l1", ("trajectories.num_experts=1", "method.max_start_epoch=1",
                           "method.student_steps=2")),
        ("one_step", ()),
        ("most_ink", ("steps=0",)),
    ],
)  # fmt: skip
def test_the_methods_of_the_guide_run(
    ddist: Any, written: Path, method: str, settings: tuple[str, ...]
) -> None:
    small = ("network.width=8", "evaluation.num_networks=1", "evaluation.epochs=2")
    quick = (QUICK[0], QUICK[-1])
    done = ddist("--config-dir=conf", f"method={method}", "dataset=digits", *quick, *small,
                 *settings, f"hydra.run.dir={method}",
                 before=f"import sys; sys.path.insert(0, {str(written)!r})")  # fmt: skip
    assert (done.code, done.err) == (0, ""), done.out + done.err
    assert (written / method / "distilled" / "grid.png").exists()
