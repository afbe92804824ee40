"""The kernels, against their recursions written out pair by pair and against wide finite networks;
their gradients against finite differences; their blocks."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, linear

from ddist.errors import DdistError
from ddist.kernels import Convolutional, FullyConnected, Kernel

WEIGHT, BIAS = 1.3, 0.2
Covariances = tuple[float, float]
Positions = dict[tuple[tuple[int, int], tuple[int, int]], float]


def connected(**changes: Any) -> FullyConnected:
    options: dict[str, Any] = {
        "depth": 2, "activation": "relu", "weight_std": WEIGHT, "bias_std": BIAS, "kind": "ntk",
        "memory": 100.0,
    }  # fmt: skip
    return FullyConnected(**(options | changes))


def convolutional(**changes: Any) -> Convolutional:
    options: dict[str, Any] = {
        "depth": 2, "activation": "relu", "weight_std": WEIGHT, "bias_std": BIAS, "kind": "ntk",
        "memory": 100.0, "pooling": "none",
    }  # fmt: skip
    return Convolutional(**(options | changes))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


EVERY = [
    connected(),
    connected(activation="erf"),
    connected(kind="nngp", depth=3),
    convolutional(),
    convolutional(activation="erf", kind="nngp"),
    convolutional(pooling="blocks"),
    convolutional(pooling="blocks", activation="erf"),
    convolutional(pooling="global"),
]


# -- the closed forms, in plain Python -------------------------------------------------------------


def relu(k: float, p: float, q: float) -> Covariances:
    """Cho & Saul 2009, degrees 1 and 0, halved: their activations are sqrt(2) times as large."""
    cosine = max(-1.0, min(1.0, k / math.sqrt(p * q)))
    angle = math.acos(cosine)
    first = math.sin(angle) + (math.pi - angle) * cosine
    return math.sqrt(p * q) * first / (2 * math.pi), (math.pi - angle) / (2 * math.pi)


def erf(k: float, p: float, q: float) -> Covariances:
    """Williams 1997; and the slope, a Gaussian integral."""
    scale = (1 + 2 * p) * (1 + 2 * q)
    value = 2 / math.pi * math.asin(2 * k / math.sqrt(scale))
    return value, 4 / math.pi / math.sqrt(scale - 4 * k * k)


CLOSED: dict[str, Callable[[float, float, float], Covariances]] = {"relu": relu, "erf": erf}


def connected_by_hand(a: Tensor, b: Tensor, depth: int, activation: str) -> tuple[float, float]:
    """NNGP and NTK of two images."""

    def dense(k: float) -> float:
        return WEIGHT**2 * k + BIAS**2

    k, p, q = (dense(float(x.flatten() @ y.flatten()) / a.numel())
               for x, y in ((a, b), (a, a), (b, b)))  # fmt: skip
    tangent = k
    for _ in range(depth):
        value, slope = CLOSED[activation](k, p, q)
        k, p, q = (dense(x) for x in (value, CLOSED[activation](p, p, p)[0],
                                      CLOSED[activation](q, q, q)[0]))  # fmt: skip
        tangent = k + WEIGHT**2 * tangent * slope
    return k, tangent


def convolutional_by_hand(
    a: Tensor, b: Tensor, depth: int, activation: str, pooling: str
) -> tuple[float, float]:
    """NNGP and NTK of two images [C, H, W], with loops over all pairs of positions."""
    height, width = a.shape[1:]

    def covariance(x: Tensor, y: Tensor) -> Positions:
        places = list(product(range(height), range(width)))
        return {
            (i, j): float(x[:, i[0], i[1]] @ y[:, j[0], j[1]]) / len(x)
            for i, j in product(places, places)
        }

    def window(k: Positions) -> Positions:
        found = {}
        for i, j in k:
            around = [
                k.get(((i[0] + r, i[1] + c), (j[0] + r, j[1] + c)), 0.0)
                for r, c in product((-1, 0, 1), repeat=2)
            ]
            found[i, j] = WEIGHT**2 / 9 * sum(around)
        return found

    def pool(k: Positions) -> Positions:
        found: Positions = {}
        for (i, j), value in k.items():
            key = (i[0] // 2, i[1] // 2), (j[0] // 2, j[1] // 2)
            found[key] = found.get(key, 0.0) + value / 16
        return {
            (i, j): value for (i, j), value in found.items()
            if max(i[0], j[0]) < height // 2 and max(i[1], j[1]) < width // 2
        }  # fmt: skip

    def read(k: Positions) -> float:
        kept = [value for (i, j), value in k.items() if pooling == "global" or i == j]
        return WEIGHT**2 * sum(kept) / len(kept)

    k = {"ab": covariance(a, b), "aa": covariance(a, a), "bb": covariance(b, b)}
    tangent: Positions | None = None
    for _ in range(depth):
        k = {n: {ij: x + BIAS**2 for ij, x in window(each).items()} for n, each in k.items()}
        grown = None if tangent is None else window(tangent)
        tangent = {ij: x + (0 if grown is None else grown[ij]) for ij, x in k["ab"].items()}
        behind = {
            n: {
                (i, j): CLOSED[activation](x, k[2 * n[0]][i, i], k[2 * n[1]][j, j])
                for (i, j), x in each.items()
            }
            for n, each in k.items()
        }
        tangent = {ij: x * behind["ab"][ij][1] for ij, x in tangent.items()}
        k = {n: {ij: x[0] for ij, x in each.items()} for n, each in behind.items()}
        if pooling == "blocks":
            k, tangent = {n: pool(each) for n, each in k.items()}, pool(tangent)
            height, width = height // 2, width // 2
    nngp = read(k["ab"]) + BIAS**2
    return nngp, nngp + (0 if tangent is None else read(tangent))


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_fully_connected_kernels_are_the_recursion(depth: int, activation: str) -> None:
    a, b = draw(3, 2, 3, 2), draw(2, 2, 3, 2, seed=1)
    by_hand = [[connected_by_hand(x, y, depth, activation) for y in b] for x in a]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    for index, kind in enumerate(("nngp", "ntk")):
        found = connected(depth=depth, activation=activation, kind=kind)(a, b)
        torch.testing.assert_close(found, expected[..., index], rtol=1e-12, atol=0)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("pooling", ["none", "blocks", "global"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_convolutional_kernels_are_the_recursion(
    depth: int, pooling: str, activation: str
) -> None:
    a, b = draw(2, 2, 5, 4), draw(1, 2, 5, 4, seed=1)
    by_hand = [[convolutional_by_hand(x, y, depth, activation, pooling) for y in b] for x in a]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    for index, kind in enumerate(("nngp", "ntk")):
        kernel = convolutional(depth=depth, activation=activation, kind=kind, pooling=pooling)
        torch.testing.assert_close(kernel(a, b), expected[..., index], rtol=1e-11, atol=0)


@pytest.mark.parametrize("make", [connected, convolutional])
def test_without_hidden_layers_both_are_the_linear_kernel(make: Callable[..., Kernel]) -> None:
    x = draw(3, 2, 4, 4)
    expected = WEIGHT**2 * x.flatten(1) @ x.flatten(1).T / 32 + BIAS**2
    for kind in ("ntk", "nngp"):
        torch.testing.assert_close(make(depth=0, kind=kind)(x, x), expected)


# -- wide finite networks --------------------------------------------------------------------------

NETWORKS, STANDARD_ERRORS = 24, 4.0
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "erf": torch.erf}


def finite(kernel: Kernel, x: Tensor, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """The two kernels of one random network of that width on images ``x``: <df, df> over all its
    parameters, and the covariance of f over its last layer, given the others."""
    stream = torch.Generator().manual_seed(seed)
    parameters: list[Tensor] = []
    pooling = kernel.pooling if isinstance(kernel, Convolutional) else None
    phi = ACTIVATIONS[kernel.activation_name]

    def layer(h: Tensor, out: int) -> Tensor:
        last = out == 1
        fan = (out, h.shape[1]) if last or pooling is None else (out, h.shape[1], 3, 3)
        w = torch.randn(fan, generator=stream, dtype=torch.float64).requires_grad_()
        b = torch.randn(out, generator=stream, dtype=torch.float64).requires_grad_()
        parameters.extend((w, b))
        scaled = WEIGHT * w / math.sqrt(w[0].numel())
        if last or pooling is None:
            return linear(h, scaled, BIAS * b)
        return conv2d(h, scaled, BIAS * b, padding=1)

    h = x.flatten(1) if pooling is None else x
    for _ in range(kernel.depth):
        h = phi(layer(h, width))
        h = avg_pool2d(h, 2) if pooling == "blocks" else h
    h = h.mean((2, 3)) if pooling == "global" else h.flatten(1)
    outputs = layer(h, 1)[:, 0]
    rows = []
    for output in outputs:
        gradients = torch.autograd.grad(output, parameters, retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    jacobian = torch.stack(rows)
    nngp = WEIGHT**2 * h @ h.T / h.shape[1] + BIAS**2
    return jacobian @ jacobian.T, nngp.detach()


@pytest.mark.parametrize(
    ("kernel", "width"),
    [
        (connected(depth=1), 2048),
        (connected(depth=2, activation="erf"), 512),
        (convolutional(depth=2), 96),
        (convolutional(depth=1, activation="erf"), 96),
        (convolutional(depth=2, pooling="blocks"), 96),
        (convolutional(depth=2, pooling="global", activation="erf"), 96),
    ],
    ids=str,
)
def test_wide_networks_have_the_kernels_on_average(kernel: Kernel, width: int) -> None:
    """Within four standard errors of the mean over networks, and those are small."""
    x = draw(3, 2, 4, 5)
    found = [finite(kernel, x, width, seed) for seed in range(NETWORKS)]
    for index, kind in enumerate(("ntk", "nngp")):
        estimates = torch.stack([each[index] for each in found])
        error = estimates.std(0) / math.sqrt(NETWORKS)
        kernel.kind = kind  # type: ignore[assignment]
        exact = kernel(x, x)
        kernel.kind = "ntk"
        assert (error < 0.05 * exact.diagonal().mean()).all()
        assert ((estimates.mean(0) - exact).abs() < STANDARD_ERRORS * error).all()


# -- properties ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", EVERY, ids=str)
def test_a_kernel_is_symmetric_and_positive(kernel: Kernel) -> None:
    x = draw(7, 2, 4, 4)
    x[1], x[2] = x[0], -x[0]  # an image twice, and its negative
    k = kernel(x, x)
    torch.testing.assert_close(k, k.T, rtol=1e-13, atol=1e-15)
    assert k.dtype == torch.float64
    assert torch.linalg.eigvalsh(k).min() > -1e-12 * k.diagonal().max()
    torch.testing.assert_close(k[0, 1], k[0, 0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("kernel", EVERY, ids=str)
def test_gradients_are_those_of_finite_differences(kernel: Kernel) -> None:
    x, y = draw(2, 2, 4, 4).requires_grad_(), draw(2, 2, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (x, y), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: kernel(x, x), x, fast_mode=True)  # each meets itself


@pytest.mark.parametrize("make", [connected, convolutional])
def test_equal_and_empty_images_have_finite_gradients(make: Callable[..., Kernel]) -> None:
    """An image equal to a real one has no derivative in its direction; one without any variance
    has no direction at all."""
    x = draw(3, 1, 4, 4)
    x[1], x[2, :, :2, :] = 0, 0
    for y in (x.clone(), draw(3, 1, 4, 4, seed=1)):
        leaf = x.clone().requires_grad_()
        kernel = make(bias_std=0.0)
        value = kernel(leaf, y).sum() + kernel(leaf, leaf).sum()
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value.isfinite() and gradient.isfinite().all() and gradient.abs().max() < 1e3


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", EVERY, ids=str)
def test_blocks_give_the_whole_matrix_and_its_gradient(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = draw(5, 2, 4, 4).requires_grad_(), draw(7, 2, 4, 4, seed=1).requires_grad_()
    outer = draw(5, 7, seed=2)
    whole = kernel(x, y)
    expected = torch.autograd.grad((outer * whole).sum(), (x, y))
    monkeypatch.setattr(type(kernel), "pairs_at_once", lambda self, x: 6)
    assert kernel.block_shape(x, y) == (2, 3)
    blocks = kernel(x, y)
    torch.testing.assert_close(blocks, whole, rtol=1e-13, atol=0)
    for found, wanted in zip(
        torch.autograd.grad((outer * blocks).sum(), (x, y)), expected, strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "side"),
    [
        (connected(memory=0.25), 4),
        (connected(memory=0.25, activation="erf", depth=4), 4),
        (convolutional(memory=1.0), 8),
        (convolutional(memory=1.0, activation="erf", depth=1), 8),
        (convolutional(memory=4.0, pooling="blocks"), 6),
        (convolutional(memory=4.0, pooling="global", depth=3), 6),
    ],
    ids=str,
)
def test_a_gradient_takes_the_memory_that_is_set(
    kernel: Kernel, side: int, living_bytes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the matrix itself and its gradient. One block for everything takes more."""

    def peak(kernel: Kernel) -> float:
        with living_bytes() as memory:
            kernel(x, y).sum().backward()
        return memory.peak / 2**20 - 3 * 8 * len(x) * len(y) / 2**20

    count = {4: 100, 8: 20, 6: 6}[side]
    x, y = draw(count, 1, side, side), draw(count, 1, side, side, seed=1).requires_grad_()
    bounded, whole = peak(kernel), kernel.block_shape(x, y) == (count, count)
    assert bounded < kernel.memory and not whole
    monkeypatch.setattr(type(kernel), "pairs_at_once", lambda self, x: count**2)
    assert peak(kernel) > 2 * bounded


def test_not_even_a_pair_fits() -> None:
    kernel = convolutional(pooling="blocks", memory=1.0)
    with pytest.raises(DdistError, match=r"One pair of 28x28 images takes 281 MiB"):
        kernel(draw(1, 1, 28, 28), draw(1, 1, 28, 28))


# -- mistakes --------------------------------------------------------------------------------------


def test_an_image_cannot_be_halved_for_ever() -> None:
    kernel = convolutional(pooling="blocks", depth=3)
    with pytest.raises(DdistError, match="halves images, of 6x6 here, as often as kernel"):
        kernel(draw(1, 1, 6, 6), draw(1, 1, 6, 6))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_blocks_reuse_the_memory_of_those_before() -> None:
    # In a process of its own, whose peak is that of this kernel: 150 blocks of 1 MB a tensor.
    program = """
import re
import torch
from pathlib import Path
from ddist.kernels import Convolutional

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

settings = dict(activation="relu", weight_std=1.4, bias_std=0.1, kind="ntk", memory=64.0)
kernel = Convolutional(depth=1, pooling="none", **settings)
x_t, x_s = torch.rand(1000, 1, 14, 14), torch.rand(100, 1, 14, 14, requires_grad=True)
before = peak()
kernel(x_t, x_s).sum().backward()
print(peak() - before)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert 0 < float(ran.stdout) < 300  # MiB; 594 where the blocks' memory is not reused
