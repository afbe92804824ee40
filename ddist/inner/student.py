"""A student's minibatches of synthetic images, and its loss on one of them."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist.augment import Draw, Siamese
from ddist.inner.steps import Batch, Loss, Weights


def student_loss(network: nn.Module, augment: Siamese) -> Loss:
    """Return ``loss(weights, (images, labels, rows, operation, uniform))``: mean cross-entropy on
    the chosen ``rows`` of the images, augmented. All randomness is an argument, so that a step can
    be computed again."""

    def loss(weights: Weights, batch: Batch) -> Tensor:
        images, labels, rows, operation, uniform = batch
        x = augment.apply(images[rows], Draw(operation, uniform), torch.arange(len(rows)))
        logits: Tensor = functional_call(network, weights, (x,))
        return cross_entropy(logits, labels[rows])

    return loss


def student_batches(
    images: Tensor,
    labels: Tensor,
    *,
    size: int | None,
    steps: int,
    augment: Siamese,
    generator: torch.Generator,
) -> list[Batch]:
    """Draw the batches of ``steps`` student steps for :func:`student_loss`: ``size`` images (see
    :func:`draw_rows`) and an operation of ``augment`` each."""
    chosen = draw_rows(len(images), size, steps, generator, images.device)
    draws = [augment.draw_for_batch(len(rows), generator) for rows in chosen]
    return [
        (images, labels, rows, draw.operation, draw.uniform)
        for rows, draw in zip(chosen, draws, strict=True)
    ]


def draw_rows(
    num: int,
    size: int | None,
    steps: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Draw which of ``num`` images each of ``steps`` steps sees: int64 [B] with B = ``size``, in
    random order without replacement until fewer are left; all of them, in order, if ``size`` is
    None or not smaller than ``num``."""
    if size is None or size >= num:
        return [torch.arange(num, device=device)] * steps
    rows: list[Tensor] = []
    while len(rows) < steps:
        order = torch.randperm(num, generator=generator).to(device)
        rows += [drawn for drawn in torch.split(order, size) if len(drawn) == size]
    return rows[:steps]
