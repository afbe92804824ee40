"""Bilinear reading: torch's grid_sample to the last bit, and differentiable any number of times."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.augment.sampling import bilinear
from ddist.seeding import generator


def images_and_grid(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Three images [2, 5, 4] and places of another shape, some of them outside."""
    stream = generator(0, "sampling")
    x = torch.randn(3, 2, 5, 4, dtype=dtype, generator=stream)
    grid = 1.3 * (2 * torch.rand(3, 6, 7, 2, dtype=dtype, generator=stream) - 1)
    assert (grid.abs() > 1).any()
    return x.requires_grad_(), grid


def torchs(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_grid_samples(dtype: torch.dtype) -> None:
    x, grid = images_and_grid(dtype)
    weight = torch.randn(3, 2, 6, 7, dtype=dtype, generator=generator(0, "weight"))
    values, gradients = [], []
    for read in (bilinear, torchs):
        values.append(read(x, grid))
        gradients.append(torch.autograd.grad((values[-1].square() * weight).sum(), x)[0])
    assert torch.equal(*values)
    assert torch.equal(*gradients)


def test_gradients_are_right_to_the_third_order() -> None:
    x, grid = images_and_grid()
    assert torch.autograd.gradcheck(lambda x: bilinear(x, grid), x)
    assert torch.autograd.gradgradcheck(lambda x: bilinear(x, grid).pow(3), x)

    def gradient(x: Tensor) -> Tensor:
        return torch.autograd.grad(bilinear(x, grid).pow(4).sum(), x, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(gradient, x)


def test_grid_samples_own_derivative_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.9 to 2.14 have no derivative of it: no node of theirs may be in the graph."""
    x, grid = images_and_grid()
    (gradient,) = torch.autograd.grad(bilinear(x, grid).square().sum(), x, create_graph=True)
    names, todo = set(), [gradient.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in names:
            names.add(node)
            todo.extend(following for following, _ in node.next_functions)
    assert not [node for node in names if "Grid" in type(node).__name__]


def test_no_gradient_flows_to_the_places() -> None:
    x, grid = images_and_grid()
    assert not bilinear(x.detach(), grid.requires_grad_()).requires_grad


def test_mixed_precision_has_a_second_derivative_too() -> None:
    """Autocast computes the places in bfloat16, and the images stay as they are."""
    x, grid = images_and_grid(torch.float32)
    expected = bilinear(x, grid.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        values = bilinear(x, grid.bfloat16())
        (gradient,) = torch.autograd.grad(values.pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert values.dtype == second.dtype == torch.float32 and second.any()
    assert torch.equal(values, expected)
