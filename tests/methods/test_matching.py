"""DM, DC and DSA: their losses against the papers' equations written out, chunks, students."""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist import DistilledDataset
from ddist.augment.mix import cutmix
from ddist.init import InitialWeights, Random
from ddist.methods import DC, DM, IDC
from ddist.methods.matching import Matching, sum_of_terms
from ddist.seeding import generator

STUDENT: dict[str, Any] = {
    "distance": "cosine", "updates": 3, "student_epochs": 2, "student_lr": 0.05,
    "student_batch_size": 8, "sum_classes": False,
}  # fmt: skip
REAL_STUDENT: dict[str, Any] = {
    "distance": "euclidean", "student_images": 32, "student_momentum": 0.9,
    "student_weight_decay": 5e-4, "synthetic_per_class": None,
    "mix": partial(cutmix, probability=0.5, beta=1.0),
}  # fmt: skip
Make = Callable[..., Matching]


@pytest.fixture
def make(make_matching: Make) -> Make:
    def build(kind: type[Matching], **changes: Any) -> Matching:
        options: dict[str, Any] = {"num_networks": 1}
        if issubclass(kind, DC):
            options |= STUDENT
        if kind is IDC:
            options |= REAL_STUDENT
        return make_matching(kind, **(options | changes))

    return build


def real_indices(method: Matching, per_class: int = 5, step: int = 0) -> Tensor:
    return method.data.class_indices(per_class, generator(0, "real", step))


def image_gradient(method: Matching, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, method.synthetic.images)[0]


def networks(method: Matching) -> list[dict[str, Tensor]]:
    drawn = method.init.draw(method.network, method.num_networks, 0, method.at)
    return [{n: w[k] for n, w in drawn.items()} for k in range(method.num_networks)]


def dm_by_hand(method: Matching, indices: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for weights in networks(method):
        # the features are what the last layer multiplies
        w = weights | {
            "head.weight": torch.eye(method.network.num_features, dtype=torch.float64),
            "head.bias": torch.zeros(method.network.num_features, dtype=torch.float64),
        }
        for c in range(10):
            x_real = method.data.images(indices[c])
            x_syn = method.synthetic.images[method.synthetic.classes == c]
            means = [functional_call(method.network, w, (x,)).mean(0) for x in (x_real, x_syn)]
            total = total + ((means[0] - means[1]) ** 2).sum() / method.num_networks
    return total


def dc_by_hand(method: Matching, indices: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for weights in networks(method):
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        for c in range(10):
            sides = []
            for x in (
                method.data.images(indices[c]),
                method.synthetic.images[method.synthetic.classes == c],
            ):
                logits = functional_call(method.network, leaves, (x,))
                loss = cross_entropy(logits, torch.full((len(x),), c))
                sides.append(torch.autograd.grad(loss, list(leaves.values()), create_graph=True))
            for real, synthetic in zip(*sides, strict=True):
                if real.ndim < 2:
                    continue
                for r, s in zip(real.detach().flatten(1), synthetic.flatten(1), strict=True):
                    cos = (r * s).sum() / (r.norm() * s.norm() + 1e-6)
                    total = total + (1 - cos) / method.num_networks
    return total


@pytest.mark.parametrize("num_networks", [1, 2])
@pytest.mark.parametrize(("kind", "by_hand"), [(DM, dm_by_hand), (DC, dc_by_hand)])
def test_loss_and_gradient_are_the_papers(
    make: Make,
    kind: type[Matching],
    by_hand: Callable[[Matching, Tensor], Tensor],
    num_networks: int,
    assert_the_papers: Callable[..., None],
) -> None:
    method = make(kind, num_networks=num_networks)
    assert_the_papers(method, real_indices(method), by_hand)


@pytest.mark.parametrize("augment", ["plain", "dsa"])
@pytest.mark.parametrize("kind", [DM, DC])
def test_classes_in_chunks_give_the_loss_of_all_at_once(
    make: Make, kind: type[Matching], augment: str, assert_same_losses: Callable[..., None]
) -> None:
    whole, chunked = (make(kind, classes_at_once=k, augment=augment) for k in (None, 3))
    assert_same_losses(whole, chunked, real_indices(whole))


def test_gradients_of_all_classes_in_one_call_give_the_same_loss(
    make: Make, monkeypatch: pytest.MonkeyPatch, assert_same_losses: Callable[..., None]
) -> None:
    one_by_one, together = make(DC), make(DC)
    monkeypatch.setattr(one_by_one, "stacked", False)
    monkeypatch.setattr(together, "stacked", True)
    assert_same_losses(one_by_one, together, real_indices(one_by_one), rtol=1e-9)
    weights = {n: w.requires_grad_() for n, w in networks(together)[0].items()}
    x, classes = together.data.images(real_indices(together)), torch.arange(10)
    for graph in (False, True):
        found = together.gradients(weights, x, classes, create_graph=graph)
        assert all(g.requires_grad is graph for g in found)


@pytest.mark.parametrize("kind", [DM, DC])
def test_equal_images_are_at_distance_zero_only_by_the_same_augmentation(
    make: Make, kind: type[Matching], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make(kind, augment="dsa")
    indices = real_indices(method, per_class=2)
    with torch.no_grad():
        method.synthetic.images.copy_(method.data.images(indices).flatten(0, 1))
    far = method.outer_loss(real_indices(method, per_class=2, step=1))
    assert method.outer_loss(indices) < 1e-3 * far  # the cosine's epsilon remains
    # other random numbers for every call: the two branches part
    calls = iter(range(100))
    dsa, apply = method.augment, method.augment.apply
    monkeypatch.setattr(
        dsa, "apply", lambda x, draw, group: apply(x, dsa.draw(10, generator(next(calls))), group)
    )
    assert method.outer_loss(indices) > 1e-2 * far


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_real_images_give_the_same_loss(
    make: Make, monkeypatch: pytest.MonkeyPatch, assert_same_losses: Callable[..., None]
) -> None:
    """Of DC, whose real images give gradients and not only features."""
    monkeypatch.setattr(DC, "stacked", False)
    plain, fast = (make(DC, classes_at_once=3, compile=each) for each in (False, True))
    assert_same_losses(plain, fast, real_indices(plain), rtol=1e-9)


@pytest.mark.parametrize("kind", [DM, DC])
def test_real_images_in_parts_give_the_loss_of_all_at_once(
    make: Make, kind: type[Matching], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DC, "stacked", False)
    method = make(kind)
    indices = real_indices(method)  # 5 images: parts of 2, 2 and 1
    whole = method.outer_loss(indices)
    monkeypatch.setattr("ddist.methods.matching.REAL_AT_ONCE", 2)
    parts = method.outer_loss(indices)
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=0)
    torch.testing.assert_close(image_gradient(method, parts), image_gradient(method, whole))


def test_each_step_and_network_has_its_own_augmentation(make: Make) -> None:
    method = make(DM, augment="dsa", init=Same())
    indices = real_indices(method)
    first = method.outer_loss(indices)
    assert method.outer_loss(indices) == first
    method.at = 1
    assert method.outer_loss(indices) != first


class Same(InitialWeights):
    """One network, whatever the step."""

    def draw(self, network: torch.nn.Module, num: int, *keys: int | str) -> dict[str, Tensor]:
        return Random("default", 0).draw(network, num, 0)

    held_out = draw


def test_terms_are_summed_with_the_memory_of_one() -> None:
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    alive: list[int] = []

    class Count(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            alive.append(1)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            alive.pop()
            return g

    most = 0

    def term(x: Tensor, part: Tensor) -> Tensor:
        nonlocal most
        y = Count.apply(x)
        most = max(most, len(alive))
        return (y**3 * (part[:, None] + 1)).sum()

    parts = torch.arange(6).split(2)
    total = sum_of_terms(term, x, parts, scale=1024.0)
    expected = (x**3 * torch.arange(1, 7)[:, None]).sum()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        torch.autograd.grad(2 * total, x)[0], torch.autograd.grad(2 * expected, x)[0]
    )
    assert most == 1


def test_small_gradients_survive_fp16() -> None:
    """Those of terms, which are differentiated before Lightning scales the loss."""
    x = torch.zeros(4, requires_grad=True)

    def term(x: Tensor, part: Tensor) -> Tensor:
        return (1e-9 * x.half()).sum()

    for scale, survives in ((1.0, False), (2.0**15, True)):  # fp16 ends at 65504
        total = sum_of_terms(term, x, torch.arange(4).split(2), scale)
        (gradient,) = torch.autograd.grad(total, x)
        assert bool((gradient > 0).all()) == survives
    torch.testing.assert_close(gradient, torch.full((4,), 1e-9), rtol=0.1, atol=0)


FP16 = {
    "dm": ("method.real_per_class=16",),
    "cafe": ("method.real_per_class=16", "method.max_student_epochs=1", "method.query_per_class=8"),
    "frepo": ("method.batch_real=64",),
}


# On a CPU, where Lightning once took it for fp16, bf16 has to pass the same test.
HALF = "16-mixed" if torch.accelerator.is_available() else "bf16-mixed"


@pytest.mark.parametrize("name", FP16)
def test_fp16_where_losses_are_differentiated_once(ddist: Any, name: str) -> None:
    images = {}
    for precision in ("32-true", HALF):
        done = ddist(
            f"method={name}", f"recipe={name}/_paper", "steps=6", "network.width=8",
            "network.depth=2", *FP16[name], "evaluation=knn", "task.baseline=false",
            "compile=false", f"hydra.run.dir={precision}",
            f"trainer.precision={precision}",
        )  # fmt: skip
        assert done.code == 0, done.err
        images[precision] = DistilledDataset.load(ddist.folder / precision / "distilled").images
    full, half = images.values()
    start = ddist(f"method={name}", f"recipe={name}/_paper", "steps=0", "evaluation=knn",
                  "hydra.run.dir=start", "network.width=8", "network.depth=2",
                  "task.baseline=false")  # fmt: skip
    assert start.code == 0, start.err
    moved = full - DistilledDataset.load(ddist.folder / "start" / "distilled").images
    assert half.isfinite().all()
    assert (half - full).norm() < 0.5 * moved.norm()  # the first steps look for a scale


def test_the_student_starts_anew_after_its_updates_and_is_trained_between(make: Make) -> None:
    method = make(DC)
    seen = []
    for method.at in range(7):
        assert method.networks_of_step() is method.networks_of_step()  # once a step
        seen.append(method.networks_of_step())
    for step in (0, 3, 6):
        fresh = method.init.draw(method.network, 1, 0, step)
        assert all(torch.equal(seen[step][n], fresh[n]) for n in fresh)
    images, labels = method.synthetic()

    def loss(weights: dict[str, Tensor]) -> float:
        one = {n: w[0] for n, w in weights.items()}
        return cross_entropy(functional_call(method.network, one, (images,)), labels).item()

    for start in (0, 3):
        assert loss(seen[start]) > loss(seen[start + 1]) > loss(seen[start + 2])


def test_students_are_trained_in_the_precision_that_is_set(make: Make) -> None:
    plain, mixed = make(DC), make(DC, student_precision="bf16-mixed")
    ends = []
    for method in (plain, mixed):
        start = method.networks_of_step()
        method.at = 1
        ends.append(method.networks_of_step())
    way, error = (
        torch.cat([(ends[0][n] - other[n]).flatten() for n in start]).norm()
        for other in (start, ends[1])
    )
    assert 0 < error < 0.05 * way


def test_idc_leaves_the_last_layer_out_and_takes_a_part_of_many_tiles(
    make: Make, common: dict[str, Any]
) -> None:
    tiles = partial(common["synthetic"], factor=2)
    method = make(IDC, synthetic=tiles, synthetic_per_class=3)
    indices = real_indices(method)
    weights = networks(method)[0]
    images, _ = method.synthetic()
    ((_, chosen),) = method.by_class(images)
    assert chosen.shape == (10, 3, *images.shape[1:])  # of 2 stored images with 4 tiles each
    for c in range(10):
        own = images[method.synthetic.classes == c]
        found = (chosen[c][:, None] == own).flatten(2).all(2)
        assert found.sum(1).tolist() == [1, 1, 1] and found.sum(0).max() == 1
    expected = torch.zeros((), dtype=torch.float64)
    body = {n: w.clone().requires_grad_() for n, w in weights.items()}
    for c in range(10):
        sides = []
        for x in (method.data.images(indices[c]), chosen[c]):
            logits = functional_call(method.network, body, (x,))
            loss = cross_entropy(logits, torch.full((len(x),), c))
            sides.append(torch.autograd.grad(loss, list(body.values()), create_graph=True))
        for name, real, synthetic in zip(body, *sides, strict=True):
            if real.ndim == 4:
                expected = expected + ((real.detach() - synthetic) ** 2).sum()
            else:
                assert real.ndim == 1 or name == "head.weight"
    loss = method.outer_loss(indices)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(image_gradient(method, loss), image_gradient(method, expected))
    method.at = 1
    ((_, others),) = method.by_class(images)
    assert not torch.equal(others, chosen)


def test_idc_trains_its_student_on_real_images(make: Make) -> None:
    method = make(IDC)
    first = method.networks_of_step()
    with torch.no_grad():
        method.synthetic.images.fill_(torch.nan)
    method.at = 1
    second = method.networks_of_step()
    assert any(not torch.equal(first[n], second[n]) for n in first)
    assert all(w.isfinite().all() for w in second.values())


def test_only_the_images_are_parameters(make: Make) -> None:
    method = make(DC)
    method.networks_of_step()
    assert [name for name, _ in method.named_parameters()] == ["synthetic.images"]
    assert not any("body" in name for name in method.state_dict())


SHELL = (
    "steps=3", "network.width=8", "network.depth=2", "ipc=2", "method.real_per_class=8",
    "evaluation.num_networks=2", "evaluation.epochs=3",
)  # fmt: skip


@pytest.mark.parametrize("method", ["dm", "dc", "dsa", "idc"])
def test_a_run_from_the_shell(results_of: Callable[..., dict[str, Any]], method: str) -> None:
    found = results_of(f"method={method}", f"recipe={method}/_paper", *SHELL)
    assert found["method"] == method and found["network"] == "convnet"
    assert found["protocol"] == {"dc": "dc2021", "idc": "idc"}.get(method, "dc2021_dsa")
    assert set(found["baselines"]) == {"random"}


def test_killed_along_a_student_it_ends_with_the_same_bits(
    same_after_a_kill: Callable[..., bool],
) -> None:
    """Step 4 of students that live for 3 steps: the second student has been trained once."""
    assert same_after_a_kill(
        4, "method=dc", "recipe=dc/_paper", *SHELL, "augment=dsa", "method.updates=3",
        "method.student_epochs=2", "steps=6",
    )  # fmt: skip
