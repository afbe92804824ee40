"""The same steps as papers write them, in plain torch: what ddist's are measured beside."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from bench import PLAIN, plain_network
from torch import Tensor, nn
from torch.func import functional_call

from ddist.data import RealData
from ddist.tasks.networks import build_network
from ddist.tasks.targets import make

Run = Callable[[], object]


def matching(name: str, cfg: Any, data: RealData, options: Any) -> Run:
    """dm, dc and dsa: class by class, the graphs of all classes kept until the end."""
    network, augment = plain_network(cfg, data, options), make(cfg.augment)
    shape = (data.num_classes, cfg.ipc, *data.image_shape)
    x_syn = torch.randn(shape, device=data.device, requires_grad=True)
    stream = torch.Generator().manual_seed(0)

    def step() -> None:
        loss = torch.zeros((), device=data.device)
        for c, indices in enumerate(data.class_indices(cfg.method.real_per_class, stream)):
            draw = augment.draw(1, stream)
            sides = [
                augment.apply(x, draw, torch.zeros(len(x), dtype=torch.int64))
                for x in (data.images(indices), x_syn[c])
            ]
            loss = loss + PLAIN[name](network, *sides, c)
        torch.autograd.grad(loss, x_syn)

    return step


def trajectory(cfg: Any, data: RealData, options: Any) -> Run:
    """mtt, and tesla, whose gradient leaves something out: the whole graph of all student steps."""
    network, augment = plain_network(cfg, data, options), make(cfg.augment)
    start = {name: w.detach().clone().requires_grad_() for name, w in network.named_parameters()}
    target = {name: w + 0.01 * torch.randn_like(w) for name, w in start.items()}
    labels = torch.arange(data.num_classes, device=data.device).repeat_interleave(cfg.ipc)
    x_syn = torch.randn(len(labels), *data.image_shape, device=data.device, requires_grad=True)
    eta = torch.tensor(0.01, device=data.device, requires_grad=True)
    stream = torch.Generator().manual_seed(0)

    def step() -> None:
        weights = start
        for _ in range(cfg.method.student_steps):
            logits = functional_call(network, weights, (augment(x_syn, stream),))
            inner = F.cross_entropy(logits, labels)
            gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            pairs = zip(weights.items(), gradients, strict=True)
            weights = {name: w - eta * gradient for (name, w), gradient in pairs}
        missed = sum((weights[name] - w).square().sum() for name, w in target.items())
        torch.autograd.grad(missed, [x_syn, eta])

    return step


def frepo(cfg: Any, data: RealData, options: Any) -> Run:
    """One network: its features, ridge regression, and a step of its own training."""
    network = build_network(cfg.network, data).to(data.device).train()
    optimizer = torch.optim.Adam(network.parameters(), cfg.method.student_lr)
    labels = torch.arange(data.num_classes, device=data.device).repeat_interleave(cfg.ipc)
    x_syn = torch.randn(len(labels), *data.image_shape, device=data.device, requires_grad=True)
    y_syn = F.one_hot(labels, data.num_classes).float().requires_grad_()
    stream = torch.Generator().manual_seed(0)

    def step() -> None:
        x, classes = data.batch(cfg.method.batch_real, stream)
        with torch.no_grad():
            real = network.features(x)
        found = network.features(x_syn)
        kernel = found @ found.T
        ridge = cfg.method.ridge * kernel.diagonal().mean() * torch.eye(len(found)).to(kernel)
        predicted = real @ found.T @ torch.linalg.solve(kernel + ridge, y_syn)
        loss = F.mse_loss(predicted, F.one_hot(classes, data.num_classes).float())
        torch.autograd.grad(loss, [x_syn, y_syn])
        optimizer.zero_grad()
        F.mse_loss(network(x_syn.detach()), y_syn.detach()).backward()
        optimizer.step()

    return step


def kip(cfg: Any, data: RealData, options: Any) -> Run:
    """The tangent kernel of a fully connected ReLU network, all pairs of images at once."""
    labels = torch.arange(data.num_classes, device=data.device).repeat_interleave(cfg.ipc)
    x_syn = torch.randn(len(labels), *data.image_shape, device=data.device, requires_grad=True)
    y_syn = F.one_hot(labels, data.num_classes).float() - 1 / data.num_classes
    stream = torch.Generator().manual_seed(0)

    def step() -> None:
        indices = data.class_indices(cfg.method.real_per_class, stream)
        x = data.images(indices).flatten(0, 1).flatten(1)
        classes = torch.arange(len(indices), device=data.device).repeat_interleave(len(indices[0]))
        y = F.one_hot(classes, data.num_classes).float() - 1 / data.num_classes
        support = x_syn.flatten(1)
        kernel = tangent_kernel(support, support)
        ridge = cfg.method.ridge * kernel.diagonal().mean() * torch.eye(len(support)).to(kernel)
        solved = torch.linalg.solve(kernel + ridge, y_syn)
        torch.autograd.grad(F.mse_loss(tangent_kernel(x, support) @ solved, y), x_syn)

    return step


def tangent_kernel(
    a: Tensor, b: Tensor, depth: int = 3, weight: float = 2.0, bias: float = 0.01
) -> Tensor:
    """[N, M] of images [N, D] and [M, D]; variances ``weight`` and ``bias``."""
    k = weight * a @ b.T / a.shape[1] + bias
    sizes = [weight * x.square().mean(1) + bias for x in (a, b)]
    tangent = k
    for _ in range(depth):
        norm = (sizes[0][:, None] * sizes[1]).sqrt()
        cosine = (k / norm).clamp(-1 + 1e-6, 1 - 1e-6)
        angle = cosine.acos()
        k = weight * norm * (angle.sin() + (math.pi - angle) * cosine) / (2 * math.pi) + bias
        tangent = k + tangent * weight * (math.pi - angle) / (2 * math.pi)
        sizes = [weight * size / 2 + bias for size in sizes]
    return tangent


def expert(cfg: Any, data: RealData, options: Any) -> Run:
    """One expert's batch: augmented, forward, backward, a step of SGD."""
    network, augment = plain_network(cfg, data, options), make(cfg.trajectories.augment)
    optimizer = torch.optim.SGD(network.parameters(), cfg.trajectories.lr)
    stream = torch.Generator().manual_seed(0)

    def step() -> None:
        x, y = data.batch(min(256, len(data.train)), stream)
        optimizer.zero_grad()
        F.cross_entropy(network(augment(x, stream)), y).backward()
        optimizer.step()

    return step


def evaluation(cfg: Any, data: RealData, options: Any) -> Run:
    """One network: trained on the synthetic images by a DataLoader, and asked about the test
    images by another."""
    from torch.utils.data import DataLoader, TensorDataset

    network: nn.Module = plain_network(cfg, data, options)
    stream = torch.Generator().manual_seed(0)
    x = data.images(data.class_indices(cfg.ipc, stream)).flatten(0, 1)
    y = torch.arange(data.num_classes, device=data.device).repeat_interleave(cfg.ipc)
    test = TensorDataset(data.normalization(data.test.x), data.test.y)

    def train_and_test() -> None:
        optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4)
        for _ in range(cfg.evaluation.epochs):
            for images, labels in DataLoader(TensorDataset(x, y), 256, shuffle=True):
                optimizer.zero_grad()
                F.cross_entropy(network(images), labels).backward()
                optimizer.step()
        with torch.no_grad():
            for images, _ in DataLoader(test, 256):
                network(images).argmax(1)

    return train_and_test
