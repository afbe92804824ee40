"""Estimates of memory against what is counted, and what is computed in parts to stay below."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from ddist.evaluation.replay import replay
from ddist.init import Random
from ddist.inner import parts
from ddist.inner.footprint import Footprint, control_groups, group_folders, meminfo
from ddist.inner.parts import forward_in_parts
from ddist.inner.predict import predict
from ddist.inner.stacking import member
from ddist.inner.steps import classification_loss, sgd
from ddist.inner.unroll import unroll
from ddist.networks import ConvNet

SHAPE = (3, 32, 32)


def convnet(width: int = 32, side: int = 32) -> nn.Module:
    options: Any = {"depth": 3, "norm": "instance", "pooling": "avg", "activation": "relu"}
    return ConvNet(5, (3, side, side), width=width, **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnet": convnet,
    "plain": lambda: ConvNet(
        5, SHAPE, depth=2, width=24, norm="none", pooling="max", activation="leaky_relu"
    ),
}


def problem(make: Callable[[], nn.Module], num: int) -> tuple[nn.Module, Any, Tensor, Tensor]:
    network = make()
    weights = member(Random("default", 0).draw(network, 1), 0)
    return network, weights, torch.randn(num, *SHAPE), torch.arange(num) % 5


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_take_about_what_is_estimated(name: str, living_bytes: Any) -> None:
    network, weights, x, y = problem(NETWORKS[name], 64)
    found = Footprint(network, SHAPE)
    with living_bytes() as memory, torch.no_grad():
        functional_call(network, weights, (x,))
    assert memory.peak / 2 < found.forward(64) < 2 * memory.peak
    with living_bytes() as memory, torch.no_grad():
        sgd(classification_loss(network))(weights, (x, y), torch.tensor(0.1))
    assert memory.peak / 2 < found.gradient(64) < 2 * memory.peak


def test_the_fastest_graph_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Footprint(convnet(), SHAPE)
    needed = [one.unrolled(10, 20, graph) for graph in ("checkpoint", "selective", "autograd")]
    assert needed == sorted(needed)
    for free, graph in (
        (2 * needed[2], "autograd"),
        (2 * needed[2] - 2, "selective"),
        (2 * needed[1] - 2, "checkpoint"),
        (None, "checkpoint"),
    ):
        monkeypatch.setattr(parts, "free_memory", lambda device, free=free: free)
        assert parts.fastest_graph(one, 10, 20, torch.device("cpu")) == graph
    monkeypatch.setattr(parts, "free_memory", lambda device: 2**50)
    monkeypatch.setattr(parts, "limit", lambda device: needed[2] - 1)
    assert parts.fastest_graph(one, 10, 20, torch.device("cpu")) == "selective"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("graph", ["checkpoint", "selective", "autograd"])
@pytest.mark.parametrize("steps", [1, 4])
def test_unrolled_steps_take_about_what_is_estimated(
    steps: int, graph: Any, name: str, living_bytes: Any
) -> None:
    network, weights, x, y = problem(NETWORKS[name], 32)
    x.requires_grad_()
    sizes = [torch.tensor(0.1)] * steps
    with living_bytes() as memory:
        loss = classification_loss(network)
        end = unroll(sgd(loss), weights, [(x, y)] * steps, sizes, graph=graph)
        loss(end, (x.detach()[:2], y[:2])).backward()
    estimated = Footprint(network, SHAPE).unrolled(32, steps, graph)
    assert memory.peak < estimated < 3 * memory.peak  # tensors alone: see the next test


RESIDENT = """
import torch
from pathlib import Path
from ddist.inner.footprint import Footprint
from ddist.inner.steps import classification_loss, sgd
from ddist.inner.unroll import unroll
from ddist.networks import ConvNet
torch.set_num_threads(1)
def resident(field):
    return int(open("/proc/self/status").read().split(field)[1].split()[0]) * 1024
def train(num, steps):
    x, y = torch.randn(num, 3, 32, 32, requires_grad=True), torch.arange(num) % 5
    weights = {name: w.detach() for name, w in network.named_parameters()}
    loss = classification_loss(network)
    sizes = [torch.tensor(0.1)] * steps
    end = unroll(sgd(loss), weights, [(x, y)] * steps, sizes, graph=GRAPH)
    loss(end, (x.detach()[:2], y[:2])).backward()
network = ConvNet(5, (3, 32, 32), **OPTIONS)
train(2, 1)  # what is only needed once
Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
before = resident("VmRSS:")
train(96, STEPS)
print(resident("VmHWM:") - before, Footprint(network, (3, 32, 32)).unrolled(96, STEPS, GRAPH))
raise SystemExit
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize(
    ("graph", "steps"), [("checkpoint", 1), ("checkpoint", 4), ("autograd", 4)]
)
def test_unrolled_steps_are_resident_about_as_estimated(
    graph: str, steps: int, norm: str, ddist: Any
) -> None:
    options = {"depth": 3, "width": 32, "norm": norm, "pooling": "avg", "activation": "relu"}
    chosen = f"OPTIONS, GRAPH, STEPS = {options}, {graph!r}, {steps}"
    done = ddist(before=chosen + RESIDENT)
    assert done.code == 0, done.err
    measured, estimated = map(int, done.out.split())
    assert measured / 2 < estimated < 2 * measured


@pytest.mark.parametrize("num_networks", [1, 3])
def test_parts_have_the_gradient_of_the_whole_in_less_memory(
    num_networks: int, living_bytes: Any
) -> None:
    network = convnet(8)
    weights = Random("default", 0).draw(network, num_networks)
    weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
    x, y = torch.randn(48, *SHAPE), torch.arange(48) % 5

    def forward(images: Tensor) -> Tensor:
        return vmap(lambda w: functional_call(network, w, (images,)))(weights)

    found, peaks = [], []
    for size in (48, 7):
        with living_bytes() as memory:
            logits = forward_in_parts(forward, x, size)
            loss = cross_entropy(logits.flatten(0, 1), y.repeat(num_networks))
            gradient = torch.autograd.grad(loss, list(weights.values()))
        found.append(gradient)
        peaks.append(memory.peak)
    assert logits.shape == (num_networks, 48, 5)
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-4)
    assert peaks[1] < 0.4 * peaks[0]


def test_what_is_no_more_than_one_part_is_computed_at_once() -> None:
    calls: list[int] = []
    forward_in_parts(lambda x: (calls.append(len(x)), x.flatten(1))[1], torch.ones(9, 2), 9)
    assert calls == [9]


def test_replay_and_predict_keep_below_the_limit(
    living_bytes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = convnet(16)
    weights = Random("default", 0).draw(network, 6)
    x = torch.randn(10, *SHAPE)
    steps = [(x, torch.arange(10) % 5)]
    images = torch.randn(200, *SHAPE)

    def measured() -> tuple[dict[str, Tensor], Tensor, int]:
        with living_bytes() as memory:
            trained = replay(network, weights, steps, torch.full((2, 1), 0.1))
            logits = predict(network, trained, images)
        return trained, logits, memory.peak

    whole = measured()
    found = Footprint(network, SHAPE)
    monkeypatch.setattr(parts, "limit", lambda device: found.gradient(20))
    few = measured()
    for name, w in whole[0].items():
        torch.testing.assert_close(few[0][name], w, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(few[1], whole[1], atol=1e-4, rtol=1e-3)
    assert few[2] < 0.6 * whole[2] and few[2] < 2 * found.gradient(20)


def test_limits_of_control_groups_and_machines_are_read(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable: 10 kB\nHugePages: 0\n")
    assert meminfo(tmp_path / "meminfo")["MemAvailable"] == 10240
    assert meminfo(tmp_path / "nowhere") == {}
    two, one = tmp_path / "two", tmp_path / "one" / "memory"
    for folder, names in (
        (two, ("memory.max", "memory.current", "inactive_file 100")),
        (one, ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file 100")),
    ):
        folder.mkdir(parents=True)
        (folder / names[0]).write_text("5000\n")
        (folder / names[1]).write_text("700\n")
        (folder / "memory.stat").write_text(f"anon 3\n{names[2]}\n")
        assert control_groups(tmp_path / folder.relative_to(tmp_path).parts[0])[0] == (5000, 600)
    (two / "memory.max").write_text("max\n")
    assert (5000, 600) not in control_groups(two)
    (tmp_path / "own").write_text("4:memory:/a/b\n0::/c\n")
    folders = group_folders(tmp_path, tmp_path / "own")
    groups = {tmp_path / "memory" / "a" / "b", tmp_path / "memory" / "a", tmp_path / "c"}
    assert groups <= {*folders}
