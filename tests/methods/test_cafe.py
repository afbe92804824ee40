"""CAFE: its loss against the paper's equations written out, its students and their schedule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddist.data import RealData
from ddist.methods import CAFE
from ddist.methods.cafe import layer_outputs
from ddist.networks import MLP, ConvNet, LeNet, Network, ResNet18
from ddist.seeding import generator

OPTIONS: dict[str, Any] = {
    "layer_weights": [0.1, 0.2, 1.0], "discrimination": 0.01, "window": 2, "saturation": 0.0,
    "movement": 1.0, "max_updates": 3, "max_student_epochs": 2, "student_lr": 0.05,
    "student_batch_size": 8, "query_per_class": 3,
}  # fmt: skip
Make = Callable[..., CAFE]


@pytest.fixture
def make(make_matching: Make) -> Make:
    return lambda **changes: make_matching(CAFE, **(OPTIONS | changes))


def real_indices(method: CAFE, per_class: int = 5) -> Tensor:
    return method.data.class_indices(per_class, generator(0, "real", 0))


def by_hand(method: CAFE, indices: Tensor) -> Tensor:
    """The paper's sum, class by class and image by image, for a ConvNet of depth 2."""
    weights = {n: w[0] for n, w in method.init.draw(method.network, 1, 0, method.at).items()}

    def layers(x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        body = method.network.body
        hooks = [block.register_forward_hook(lambda *a: found.append(a[2])) for block in body]
        functional_call(method.network, weights, (x,))
        for hook in hooks:
            hook.remove()
        return [*found, found[-1].flatten(1)]

    real = [layers(method.data.images(rows)) for rows in indices]
    images, classes = method.synthetic.images, method.synthetic.classes
    synthetic = [layers(images[classes == c]) for c in range(10)]
    total = torch.zeros((), dtype=torch.float64)
    for layer, weight in enumerate(OPTIONS["layer_weights"]):
        for c in range(10):
            apart = real[c][layer].detach().mean(0) - synthetic[c][layer].mean(0)
            total = total + weight * (apart**2).sum()
    centres = [synthetic[c][-1].mean(0) for c in range(10)]
    for c in range(10):
        for feature in real[c][-1].detach():
            logits = torch.stack([feature @ centre for centre in centres])
            total = total - 0.01 * torch.log_softmax(logits, 0)[c]
    return total


def image_gradient(method: CAFE, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, method.synthetic.images)[0]


def test_loss_and_gradient_are_the_papers(
    make: Make, assert_the_papers: Callable[..., None]
) -> None:
    method = make()
    assert_the_papers(method, real_indices(method), by_hand)


@pytest.mark.parametrize("augment", ["plain", "dsa"])
def test_classes_in_chunks_give_the_loss_of_all_at_once(
    make: Make, augment: str, assert_same_losses: Callable[..., None]
) -> None:
    whole, chunked = (make(classes_at_once=k, augment=augment) for k in (None, 3))
    assert_same_losses(whole, chunked, real_indices(whole))


def test_equal_images_are_aligned(make: Make) -> None:
    method = make(discrimination=0.0)
    indices = real_indices(method, per_class=2)
    far = method.outer_loss(indices)
    with torch.no_grad():
        method.synthetic.images.copy_(method.data.images(indices).flatten(0, 1))
    assert method.outer_loss(indices) < 1e-20 * far


@pytest.mark.parametrize(
    ("make_network", "shape", "num"),
    [
        (lambda shape: ConvNet(3, shape, 4, 4, "instance", "avg", "relu"), (1, 28, 28), 5),
        (lambda shape: LeNet(3, shape), (1, 28, 28), 5),
        (lambda shape: MLP(3, shape, [6, 5], "relu"), (2, 5, 7), 3),
        (lambda shape: MLP(3, shape, [], "relu"), (2, 5, 7), 1),
        (lambda shape: ResNet18(3, shape, "instance"), (3, 16, 16), 6),
        (lambda shape: Network(Whole(), 3, shape), (1, 4, 4), 2),
    ],
    ids=["convnet", "lenet", "mlp", "linear", "resnet", "whole"],
)
def test_layers_are_the_blocks_of_any_network(
    make_network: Callable[[tuple[int, int, int]], Network], shape: tuple[int, int, int], num: int
) -> None:
    network = make_network(shape)
    weights = {n: w.detach() + 0.01 for n, w in network.named_parameters()}
    x = torch.randn(2, *shape)
    outputs = layer_outputs(network, weights, x)
    assert len(outputs) == num
    logits = functional_call(network, weights, (x,))
    head = nn.functional.linear(outputs[-1], weights["head.weight"], weights["head.bias"])
    torch.testing.assert_close(head, logits)


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))


# -- the student ---------------------------------------------------------------------------------


def steps_of(method: CAFE, num: int) -> list[bool]:
    """Whether the student is a fresh one, at each of ``num`` outer steps."""
    fresh = []
    for method.at in range(num):
        found = method.networks_of_step()
        assert method.networks_of_step() is found  # once a step
        drawn = method.init.draw(method.network, 1, 0, method.at)
        fresh.append(all(torch.equal(found[n], drawn[n]) for n in drawn))
    return fresh


def scripted(method: CAFE, accuracies: list[float]) -> Callable[[], int]:
    """The query says ``accuracies`` one after the other, the last for ever; how often it has."""
    calls = 0

    def query_accuracy(weights: dict[str, Tensor]) -> float:
        nonlocal calls
        calls += 1
        return accuracies[min(calls, len(accuracies)) - 1]

    method.query_accuracy = query_accuracy  # type: ignore[method-assign]
    return lambda: calls


def test_caps_end_what_would_never_end(make: Make) -> None:
    method = make(movement=2.0, saturation=-1.0, max_updates=3, max_student_epochs=4)
    calls = scripted(method, [0.5])  # neither moves nor saturates
    assert steps_of(method, 7) == [True, False, False, True, False, False, True]
    assert calls() == 3 + 4 * 4  # three fresh students, four times all four epochs


def test_a_student_is_trained_until_it_has_moved(make: Make) -> None:
    method = make(movement=0.1, max_student_epochs=9)
    calls = scripted(method, [0.1, 0.2, 0.25, 0.26, 0.4, 0.9])
    steps_of(method, 2)
    assert calls() == 5  # 0.26 and 0.4 are two that differ by more than 0.1


def test_a_student_that_has_saturated_is_replaced(make: Make) -> None:
    method = make(saturation=0.1, max_student_epochs=1, max_updates=9)
    scripted(method, [0.1, 0.5, 0.8, 0.85, 0.1, 0.12, 0.3])
    assert steps_of(method, 7) == [True, False, False, False, True, False, True]


def test_the_student_learns_from_the_synthetic_images(make: Make) -> None:
    method = make(max_student_epochs=3, movement=1.0)
    images, labels = method.synthetic()

    def loss(weights: dict[str, Tensor]) -> float:
        one = {n: w[0] for n, w in weights.items()}
        logits = functional_call(method.network, one, (images,))
        return nn.functional.cross_entropy(logits, labels).item()

    losses = []
    for method.at in range(3):
        losses.append(loss(method.networks_of_step()))
    assert losses[0] > losses[1] > losses[2]


def test_the_query_is_balanced_fixed_and_held_out_where_it_can_be(
    make: Make, real_data: Callable[..., RealData]
) -> None:
    method = make()
    ((x, y),) = method.query()
    assert y.bincount().tolist() == [3] * 10
    assert torch.equal(next(method.query())[0], x)
    split = method.data.train
    assert torch.equal(x, method.data.normalization(split.x[method._query]))
    data = real_data("digits", validation=0.2).load()
    ((held_out, _),) = make(data=data, query_per_class=1000).query()
    assert data.validation is not None
    assert len(held_out) == len(data.validation)


def test_the_student_goes_through_a_checkpoint(make: Make) -> None:
    class Trainer:
        world_size, global_rank = 1, 0

    first, second = make(), make()
    for method in (first, second):
        method._trainer = Trainer()  # type: ignore[assignment]
    for first.at in range(2):
        weights = first.networks_of_step()
    checkpoint: dict[str, Any] = {}
    first.on_save_checkpoint(checkpoint)
    second.on_load_checkpoint(checkpoint)
    second.at = 1
    assert all(torch.equal(w, weights[n]) for n, w in second.networks_of_step().items())
    second.synthetic.load_state_dict(first.synthetic.state_dict())
    first.at = second.at = 2
    again, other = first.networks_of_step(), second.networks_of_step()
    assert all(torch.equal(w, again[n]) for n, w in other.items())
    a, b = first._students_at, second._students_at
    assert a is not None and b is not None
    assert torch.equal(a.figures, b.figures) and not a.figures.isnan().any()


SHELL = (
    "method=cafe", "recipe=cafe/_paper", "network.width=8", "network.depth=2", "ipc=2",
    "method.real_per_class=8",
    "method.query_per_class=10", "method.max_student_epochs=4", "method.window=2",
    "evaluation.num_networks=2", "evaluation.epochs=3",
)  # fmt: skip


def test_a_run_from_the_shell(results_of: Callable[..., dict[str, Any]]) -> None:
    found = results_of(*SHELL, "steps=3")
    assert (found["method"], found["network"]) == ("cafe", "convnet")
    assert found["protocol"] == "dc2021"


def test_killed_along_a_student_it_ends_with_the_same_bits(
    same_after_a_kill: Callable[..., bool],
) -> None:
    """Step 5 of students that live for 4 steps at most: the second has been trained once."""
    assert same_after_a_kill(
        5, *SHELL, "augment=dsa", "method.max_updates=4", "method.saturation=0.001", "steps=8"
    )
