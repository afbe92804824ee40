"""The code in the README of every format is run in its folder, as a reader would run it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.normalization import MeanStd, Normalization, Unit, Zca
from ddist.exchange.export import exported
from ddist.storage.atomic import write_folder


def make(normalization: Normalization, labels: Tensor, shape=(3, 4, 6), **options: Any):
    """Twelve images whose pixels 8 bits hold exactly."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, *shape), generator=generator, dtype=torch.uint8)
    meta = {"dataset": "d", "method": "m", "ipc": 4, "num_classes": 3, "image_shape": list(shape),
            "class_names": ["a/b", "ü", "c"], **options.pop("meta", {})}  # fmt: skip
    return DistilledDataset(
        images=normalization(pixels),
        labels=labels,
        normalization=normalization.state(),
        meta=meta,
        config="seed: 0\n",
        **options,
    )


MEAN_STD = MeanStd(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 2.0]))
GREY = MeanStd(torch.tensor([0.4]), torch.tensor([0.3]))
ZCA = Zca(torch.rand(72), torch.eye(72) + torch.full((72, 72), 0.01))
HARD = torch.arange(12) % 3
NUMBERS = torch.linspace(-2, 3, 36).view(12, 3)
STEPS = {"step_sizes": torch.tensor([[0.1, 0.2], [0.3, 0.4]]), "step_index": torch.arange(12) % 2}
CASES: dict[str, Callable[[], DistilledDataset]] = {
    "hard labels": lambda: make(MEAN_STD, HARD),
    "pixels": lambda: make(Unit(), HARD),
    "grey, weights": lambda: make(GREY, HARD, (1, 5, 5), weights=torch.rand(12)),
    "whitened, soft": lambda: make(ZCA, NUMBERS.softmax(1)),
    "of regression, steps": lambda: make(MEAN_STD, NUMBERS, **STEPS),
    "tiles of a teacher": lambda: make(
        MEAN_STD,
        NUMBERS.softmax(1).half(),
        weights=torch.rand(12),
        meta={"factor": 2, "label_temperature": 4.0},
    ),
    "tiles, steps, a fixed start": lambda: make(
        MEAN_STD, HARD, meta={"factor": 2}, initial_weights={"1.bias": torch.ones(3)}, **STEPS
    ),
}


def written(distilled: DistilledDataset, format: str, folder: Path) -> Path:
    if format == "artifact":
        return distilled.save(folder)
    write_folder(folder, exported(distilled, format))
    return folder


@pytest.mark.parametrize("format", ["png", "npz", "torch", "hub", "artifact"])
@pytest.mark.parametrize("case", CASES)
def test_the_readmes_code_gives_the_set(
    case: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled = CASES[case]()
    monkeypatch.chdir(written(distilled, format, tmp_path / "folder"))
    blocks = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    images, labels, weights = distilled.examples()
    torch.testing.assert_close(names["images"], images, atol=2e-5, rtol=0)
    torch.testing.assert_close(names["labels"], labels, check_dtype=not labels.is_floating_point())
    if weights is not None:
        found = names["weights"] if "weights" in names else names["dataset"].tensors[2]
        torch.testing.assert_close(found, weights)
    test = torch.rand(2, *distilled.images.shape[1:])
    expected = Normalization.from_state(distilled.normalization)(test)
    torch.testing.assert_close(names["normalize"](test), expected)
    assert ("train" in names) == (distilled.step_sizes is not None)
    if distilled.step_sizes is not None:
        check_training(names["train"], distilled)
    if distilled.initial_weights is not None and "start" in names:
        assert torch.equal(names["start"]["1.bias"], distilled.initial_weights["1.bias"])


def check_training(train: Callable[[nn.Module], None], distilled: DistilledDataset) -> None:
    """``train`` is plain gradient descent over ``distilled.replay()``."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(distilled.images[0].numel(), 3))
    bias = network[1].bias.detach().clone()
    weight = network[1].weight.detach().clone()
    for x, y, size in distilled.replay():
        weight.requires_grad_(), bias.requires_grad_()
        loss = nn.functional.cross_entropy(x.flatten(1) @ weight.T + bias, y)
        slopes = torch.autograd.grad(loss, [weight, bias])
        weight, bias = (w.detach() - size * s for w, s in zip((weight, bias), slopes, strict=True))
    train(network)
    torch.testing.assert_close(network[1].weight.detach(), weight, atol=1e-4, rtol=1e-4)


def test_pictures_have_one_or_three_channels() -> None:
    two = MeanStd(torch.zeros(2), torch.ones(2))
    with pytest.raises(Exception, match="1 or 3 channels and these images 2: choose format=npz"):
        exported(make(two, HARD, (2, 4, 4)), "png")
