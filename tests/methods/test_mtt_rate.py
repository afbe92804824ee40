"""MTT's learning rate of the step size: one outer step by hand."""

from collections.abc import Callable
from functools import partial
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist.methods import MTT
from ddist.networks import Weights
from tests.methods.every import Experts


class Double(Experts):
    def read(self, network: nn.Module, expert: int, epoch: int) -> Weights:
        return {name: w.double() for name, w in super().read(network, expert, epoch).items()}


EMPTY: Any = torch.empty(0)
MOMENTUM, STEPS = 0.5, 3


@pytest.fixture
def make(
    common: dict[str, Any], augments: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., MTT]:
    """In double precision, outside of a Trainer, always at outer step 0."""

    def build(step_size: float = 0.1, **lr: float) -> MTT:
        method = MTT(
            **common, ipc=1, student_steps=STEPS, expert_epochs=2, min_start_epoch=0,
            max_start_epoch=4, batch_syn=None, step_size=step_size,
            log_step_size=False, unroll="autograd",
            label_start="classes", num_teachers=2, max_loss=None, nearest=False, ema=None,
            clip=None, augment=augments["plain"], trajectories=Double(),  # type: ignore[arg-type]
            optimizer=partial(torch.optim.SGD, momentum=MOMENTUM), scheduler=None,
            lr={"images": 0.1, "labels": 0.1, "step_sizes": 0.01} | lr,
        ).double()  # fmt: skip
        monkeypatch.setattr(MTT, "global_rank", 0)
        monkeypatch.setattr(MTT, "clip_gradients", lambda *_, **__: None)
        monkeypatch.setattr(method, "batch_number", lambda: 0)
        monkeypatch.setattr(method, "log", lambda *_, **__: None)
        return method

    return build


def slope_in_eta(method: MTT) -> float:
    """dL/d eta at outer step 0, by plain autograd, eta a number of its own."""
    drawn = method.draw_experts
    pair: list[Weights] = []
    method.draw_experts = lambda stream: pair.extend(drawn(stream)) or (pair[0], pair[1])  # type: ignore[method-assign, func-returns-value]
    method.outer_loss(EMPTY)
    start, target = pair[:2]
    images, labels = (each.detach() for each in method.synthetic())
    eta = method.learned_step_sizes().detach()[0, 0].requires_grad_()
    w = {name: each.clone().requires_grad_() for name, each in start.items()}
    for _ in range(STEPS):
        inner = cross_entropy(functional_call(method.network, w, (images,)), labels)
        g = torch.autograd.grad(inner, list(w.values()), create_graph=True)
        w = {name: w[name] - eta * each for name, each in zip(w, g, strict=True)}
    missed: Tensor = torch.stack([(w[n] - target[n]).square().sum() for n in w]).sum()
    way = torch.stack([(start[n] - target[n]).square().sum() for n in w]).sum()
    (slope,) = torch.autograd.grad(missed / way, eta)
    return float(slope)


def outer_steps(method: MTT, num: int) -> list[float]:
    """Steps of the method's own optimizer on the same experts; eta before each and at the end."""
    optimizer: Any = method.configure_optimizers()
    etas = [float(method.step_sizes())]  # type: ignore[arg-type]
    for _ in range(num):
        optimizer.zero_grad()
        method.outer_loss(EMPTY).backward()
        method.on_before_optimizer_step(optimizer)
        optimizer.step()
        etas.append(float(method.step_sizes()))  # type: ignore[arg-type]
    return etas


@pytest.mark.parametrize("step_size", [0.001, 0.1, 2.0])
@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_it_is_the_rate_of_the_step_size_itself(
    make: Callable[..., MTT], step_size: float, lr: float
) -> None:
    """Learned is r with eta = log(1 + e^r), whose slope where it starts is s = 1 - e^-eta:
    r moves by lr / s^2 dL/dr, which moves eta by lr dL/d eta, but for the bend of the softplus."""
    method = make(step_size, step_sizes=lr * step_size)  # small beside eta
    slope = slope_in_eta(method)
    assert abs(slope) > 1e-6
    before, after = outer_steps(make(step_size, step_sizes=lr * step_size), 1)
    s = 1 - exp(-before)
    assert before == pytest.approx(step_size, rel=1e-6)
    r = log(exp(before) - 1) - lr * step_size / s**2 * (slope * s)
    assert after == pytest.approx(log(1 + exp(r)), rel=1e-9)
    assert after - before == pytest.approx(-lr * step_size * slope, rel=0.1)


def test_no_other_rate_moves_it(make: Callable[..., MTT]) -> None:
    before, after = outer_steps(make(step_sizes=0.0), 1)
    assert before == after
    usual, others = (outer_steps(make(**rates), 1)[1] for rates in ({}, {"images": 9.0}))
    assert usual == others != before
    moves = [outer_steps(make(step_sizes=lr), 1)[1] - before for lr in (1e-6, 2e-6)]
    assert moves[1] == pytest.approx(2 * moves[0], rel=1e-3)


def test_it_is_not_the_rate_of_the_images(make: Callable[..., MTT]) -> None:
    def moved(**rates: float) -> Tensor:
        method = make(**rates)
        start = method.synthetic.images.detach().clone()
        outer_steps(method, 1)
        return method.synthetic.images.detach() - start

    torch.testing.assert_close(moved(), moved(step_sizes=0.0))
    torch.testing.assert_close(2 * moved(images=0.1), moved(images=0.2))
