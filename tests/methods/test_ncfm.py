"""NCFM: its loss against the paper's equations written out, and the networks that it looks with."""

import cmath
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import Pretrained, Random
from ddist.methods import NCFM
from ddist.networks import ConvNet
from ddist.seeding import generator
from tests.pixel import pixel

TILES = pixel(start="real", factor=2)
Make = Callable[..., NCFM]


@pytest.fixture
def pool(digits: RealData, tmp_path: Path) -> Pretrained:
    """Three networks, trained for an epoch."""
    return Pretrained(
        source=digits, num_networks=3, num_held_out=0, fixed=False, scheme="default", epochs=1,
        batch_size=256, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.0, lr_drops=[],
        lr_factor=0.1, cache=tmp_path, seed=0,
    )  # fmt: skip


@pytest.fixture
def make(make_matching: Make, digits: RealData, monkeypatch: pytest.MonkeyPatch) -> Make:
    # In single precision, as the pool is trained; its weights are doubled.
    network = ConvNet(10, digits.image_shape, 2, 6, "instance", "avg", "relu")

    def build(**changes: Any) -> NCFM:
        options: dict[str, Any] = {
            "network": network, "synthetic": TILES, "ipc": 1, "num_networks": 1,
            "num_frequencies": 11, "alpha": 0.4, "scale": 300.0, "calibration": 0.0,
        }  # fmt: skip
        method = make_matching(NCFM, **(options | changes))
        networks = method.networks_of_step
        monkeypatch.setattr(
            method, "networks_of_step", lambda: {n: w.double() for n, w in networks().items()}
        )
        return method

    return build


def real_indices(method: NCFM, per_class: int = 5) -> Tensor:
    return method.data.class_indices(per_class, generator(0, "real", 0))


def image_gradient(method: NCFM, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, method.synthetic.images)[0]


def distance_by_hand(method: NCFM, weights: dict[str, Tensor], indices: Tensor) -> float:
    """The paper's sum, class by class, frequency by frequency, image by image."""

    def features(x: Tensor) -> list[Tensor]:
        width = method.network.num_features
        own = weights | {
            "head.weight": torch.eye(width).double(),
            "head.bias": torch.zeros(width).double(),
        }
        rows = functional_call(method.network, own, (x,)).detach()
        return [row / math.sqrt(float(row @ row)) for row in rows]

    def phi(rows: list[Tensor], t: Tensor) -> complex:
        return sum(cmath.exp(1j * float(t @ row)) for row in rows) / len(rows)

    images, _ = method.synthetic()
    frequencies = method.frequencies(torch.zeros(1, method.network.num_features).double())
    total = 0.0
    for c in range(10):
        real = features(method.data.images(indices[c]))
        synthetic = features(images[method.synthetic.classes == c])
        for t in frequencies:
            r, s = phi(real, t), phi(synthetic, t)
            phase = 2 * (abs(r) * abs(s) - r.real * s.real - r.imag * s.imag)
            total += math.sqrt(0.4 * (abs(r) - abs(s)) ** 2 + 0.6 * phase) / len(frequencies)
    return total


def test_the_loss_is_the_papers_in_random_networks(make: Make) -> None:
    method = make(init=Random("default", 0))
    indices = real_indices(method)
    weights = {n: w[0] for n, w in method.networks_of_step().items()}
    expected = 300 * distance_by_hand(method, weights, indices)
    assert method.outer_loss(indices).item() == pytest.approx(expected, rel=1e-10)


def test_the_loss_is_the_papers_in_trained_networks(make: Make, pool: Pretrained) -> None:
    method = make(init=pool, calibration=2.0)
    indices = real_indices(method)
    last, first = (draw(method.network, 1, 0, 0) for draw in (pool.draw, pool.start))
    place = torch.rand(1, generator=generator(0, "mix", 0, 0)).item()
    weights = {n: torch.lerp(first[n][0], w[0], place).double() for n, w in last.items()}
    expected = 300 * distance_by_hand(method, weights, indices)
    images, _ = method.synthetic()
    trained = {n: w[0].double() for n, w in last.items()}
    for image, c in zip(images, method.synthetic.classes, strict=True):
        logits = functional_call(method.network, trained, (image[None],))[0]
        expected -= 2.0 * torch.log_softmax(logits, 0)[c].item() / 4  # four in a class
    loss = method.outer_loss(indices)
    assert loss.item() == pytest.approx(expected, rel=1e-7)  # lerp is in single precision
    assert image_gradient(method, loss).abs().max() > 1e-3


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("augment", ["plain", "dsa"])
def test_classes_in_chunks_give_the_loss_of_all_at_once(
    make: Make,
    pool: Pretrained,
    augment: str,
    trained: bool,
    assert_same_losses: Callable[..., None],
) -> None:
    more = {"init": pool, "calibration": 1.0} if trained else {}
    whole, chunked = (make(classes_at_once=k, augment=augment, **more) for k in (None, 3))
    assert_same_losses(whole, chunked, real_indices(whole))


def test_equal_images_are_at_distance_zero(make: Make, common: dict[str, Any]) -> None:
    method = make(synthetic=partial(TILES, factor=1), ipc=2)
    indices = real_indices(method, per_class=2)
    far = method.outer_loss(indices)
    with torch.no_grad():
        method.synthetic.images.copy_(method.data.images(indices).flatten(0, 1))
    near = method.outer_loss(indices)
    assert near < 1e-6 * far
    assert image_gradient(method, near).isfinite().all()


def test_a_pool_remembers_where_its_networks_started(pool: Pretrained, digits: RealData) -> None:
    network = ConvNet(10, digits.image_shape, 2, 6, "instance", "avg", "relu")
    every = Random("default", 0).draw(network, 3, "pool")
    for step in range(4):
        first, last = (draw(network, 3, 0, step) for draw in (pool.start, pool.draw))
        for k in range(3):
            number = next(
                i for i in range(3) if torch.equal(every["head.weight"][i], first["head.weight"][k])
            )
            assert all(torch.equal(w[number], first[n][k]) for n, w in every.items())
            trained = {n: w[number] for n, w in pool._pool(network).items()}
            assert all(torch.equal(w, last[n][k]) for n, w in trained.items())


def test_each_step_has_its_own_networks_and_frequencies(make: Make, pool: Pretrained) -> None:
    method = make(init=pool)
    first = method.networks_of_step(), method.frequencies(torch.zeros(1, 4))
    again = method.networks_of_step(), method.frequencies(torch.zeros(1, 4))
    method.at = 1
    other = method.networks_of_step(), method.frequencies(torch.zeros(1, 4))
    name = "body.0.0.weight"
    assert torch.equal(first[0][name], again[0][name]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0][name], other[0][name]) and not torch.equal(first[1], other[1])


def test_calibration_needs_trained_networks(make: Make) -> None:
    with pytest.raises(DdistError, match=r"method\.calibration judges the images by"):
        make(calibration=1.0)


SHELL = (
    "method=ncfm", "recipe=ncfm/_paper", "steps=3", "network.width=8", "network.depth=2",
    "method.real_per_class=8",
    "method.num_frequencies=64", "evaluation.num_networks=2", "evaluation.epochs=3",
)  # fmt: skip


def test_a_run_from_the_shell(results_of: Callable[..., dict[str, Any]]) -> None:
    found = results_of(*SHELL, "init.num_networks=2", "init.epochs=1", "paths.cache=cache")
    assert (found["method"], found["network"], found["init"]) == ("ncfm", "convnet", "experts")


def test_a_run_with_random_networks(ddist: Any, results_of: Callable[..., dict[str, Any]]) -> None:
    done = ddist(*SHELL, "init=random", "hydra.run.dir=run")
    assert done.code == 1 and "set method.calibration=0" in done.err
    assert results_of(*SHELL, "init=random", "method.calibration=0")["init"] == "random"
