"""Experts of others: replay buffers become experts, of the right network only."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.exchange.buffers import import_experts
from ddist.experts import Stored
from ddist.networks import ConvNet
from ddist.networks.base import Weights


def convnet(width: int = 4, norm: str = "instance") -> ConvNet:
    return ConvNet(10, (1, 8, 8), 2, width, norm, "avg", "relu")


class Theirs(nn.Module):
    """The ConvNet of the condensation code, built as it builds it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (1, 4):
            layers += [nn.Conv2d(channels, 4, 3, padding=1), nn.GroupNorm(4, 4, affine=True),
                       nn.ReLU(), nn.AvgPool2d(2)]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def buffers(folder: Path, lengths: tuple[tuple[int, ...], ...]) -> list[list[list[nn.Parameter]]]:
    """Files of trajectories with so many epochs; and all of these."""
    every = []
    folder.mkdir()
    for number, file in enumerate(lengths):
        found = [[list(Theirs().parameters()) for _ in range(n + 1)] for n in file]
        torch.save(found, folder / f"replay_buffer_{9 + number}.pt")
        every += found
    return every


def stored(folder: Path, source: RealData) -> Stored:
    return Stored(folder=str(folder), source=source, cache="unused", seed=0, compile=False)


def imported(path: Path, into: Path, network: nn.Module | None = None) -> tuple[int, int]:
    return import_experts(path, network or convnet(), into, "digits", "mean_std")


def test_experts_of_buffers_compute_what_theirs_compute(tmp_path: Path, digits: RealData) -> None:
    theirs = buffers(tmp_path / "buffers", ((3, 2), (2,)))
    assert imported(tmp_path / "buffers", tmp_path / "experts") == (3, 2)
    experts, network = stored(tmp_path / "experts", digits), convnet()
    experts.prepare(network, 2)
    assert (experts.num_experts, experts.epochs) == (3, 2)
    x, their = torch.randn(5, 1, 8, 8), Theirs()
    for expert in range(3):
        for epoch in range(3):
            ours: Weights = experts.read(network, expert, epoch)
            named = dict(zip(dict(their.named_parameters()), theirs[expert][epoch], strict=True))
            expected = functional_call(their, named, (x,))
            torch.testing.assert_close(functional_call(network, ours, (x,)), expected)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (convnet(width=8), r"one of \[4, 1, 3, 3\] where body.0.0.weight has \[8, 1, 3, 3\]"),
        (convnet(norm="none"), r"10 tensors, one of \[4\] where body.1.0.weight has"),
    ],
)
def test_buffers_of_another_network_are_one_sentence(
    network: nn.Module, said: str, tmp_path: Path
) -> None:
    buffers(tmp_path / "buffers", ((1,),))
    with pytest.raises(DdistError, match=said):
        imported(tmp_path / "buffers", tmp_path / "experts", network)


def test_other_uses_are_one_sentence(tmp_path: Path, digits: RealData) -> None:
    buffers(tmp_path / "buffers", ((2,),))
    imported(tmp_path / "buffers", tmp_path / "experts")
    experts = stored(tmp_path / "experts", digits)
    with pytest.raises(DdistError, match=r"Experts of 3 epochs are needed, and those in .* have 2"):
        experts.prepare(convnet(), 3)
    with pytest.raises(DdistError, match=r"of another network .374 weights in 10 tensors"):
        experts.prepare(convnet(width=8), 2)
    import_experts(tmp_path / "buffers", convnet(), tmp_path / "z", "digits", "zca")
    with pytest.raises(DdistError, match=r"trained with dataset.normalize=zca, not mean_std"):
        stored(tmp_path / "z", digits).prepare(convnet(), 2)
    import_experts(tmp_path / "buffers", convnet(), tmp_path / "m", "mnist", "mean_std")
    with pytest.raises(DdistError, match=r"trained with dataset=mnist, not digits"):
        stored(tmp_path / "m", digits).prepare(convnet(), 2)
    with pytest.raises(DdistError, match="holds no experts that task=import"):
        stored(tmp_path / "buffers", digits)
    with pytest.raises(DdistError, match=r"holds no replay_buffer_\*.pt"):
        imported(tmp_path / "experts", tmp_path / "n")
    for content in ([], [[torch.zeros(1)]], {"a": 1}, [[["x"], ["y"]]]):
        torch.save(content, tmp_path / "replay_buffer_0.pt")
        with pytest.raises(DdistError, match="a list of trajectories, each a list of epochs"):
            imported(tmp_path / "replay_buffer_0.pt", tmp_path / "n")
