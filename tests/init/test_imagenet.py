"""ImageNet's AlexNet: torchvision's weights in ddist's network, from a file that the test makes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.func import functional_call

from ddist.errors import DdistError
from ddist.init import ImageNet
from ddist.networks import AlexNet

SHAPE = (3, 64, 64)


@pytest.fixture(scope="module")
def reference() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.alexnet(weights=None, num_classes=7).eval()


@pytest.fixture(scope="module")
def file(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alexnet.safetensors"
    save_file(reference.state_dict(), path)
    return path


def test_the_body_is_torchvisions_and_the_head_is_new(reference: Any, file: Path) -> None:
    network = AlexNet(20, SHAPE, "imagenet").eval()
    assert sum(p.numel() for p in network.parameters()) == 57_085_780
    drawn = ImageNet(file, download=False).draw(network, 2, 0, 3)
    weights = {name: w[1] for name, w in drawn.items()}
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = reference.classifier[:-1](reference.avgpool(reference.features(x)).flatten(1))
        logits = functional_call(network, weights, (x,))
        weights["head.weight"] = torch.eye(20, 4096)
        ours = functional_call(network, weights, (x,)) - 1
    torch.testing.assert_close(ours, features[:, :20])
    assert torch.equal(logits, torch.ones(3, 20))
    assert ImageNet(file, download=False).held_out(network, 9)["head.bias"].shape == (1, 20)


def test_auto_is_by_size() -> None:
    assert AlexNet(10, (3, 32, 32), "auto").layout == "small"
    assert sum(p.numel() for p in AlexNet(10, (3, 32, 32), "auto").parameters()) == 1_872_202


def test_mistakes_are_named(file: Path, tmp_path: Path) -> None:
    small = AlexNet(10, (3, 32, 32), "small")
    with pytest.raises(DdistError, match=r"fit no other network: choose network=alexnet"):
        ImageNet(file, download=False).draw(small, 1)
    with pytest.raises(DdistError, match=r"no file .*nothing\.pth: set init\.weights"):
        ImageNet(tmp_path / "nothing.pth", download=False).draw(small, 1)
    evil = tmp_path / "evil.pth"
    torch.save({"a": Path("x")}, evil)  # a pickle that wants more than tensors
    with pytest.raises(DdistError, match=r"init\.weights=.*evil\.pth cannot be read"):
        ImageNet(evil, download=False).draw(small, 1)


@pytest.mark.slow
def test_one_image_per_class_in_three_steps(ddist: Any, file: Path) -> None:
    """The paper's command, on the digits' size of problem: 3 classes of coloured noise."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 12), ("test", 30)):
        y = np.arange(count) % 3
        x = generator.integers(0, 120, (count, 64, 64, 3))
        x[np.arange(count), ..., y] += 100
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    np.savez(ddist.folder / "coloured.npz", **arrays)
    done = ddist("method=dd", "dataset=arrays", "dataset.source.file=coloured.npz", "ipc=1",
                 "network=alexnet", "network.layout=imagenet", "init=pretrained",
                 "init.source=imagenet", f"init.weights={file}", "steps=2", "method.batch_real=6",
                 "method.step_size=0.001", "evaluation.epoch_grid=[1]",
                 "evaluation.step_size_grid=[0.01]", "hydra.run.dir=run")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "peak memory" in done.out and "no adaptation" not in done.out
