"""clp and lgm: the papers' objectives and their gradients, in double precision and in parts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddist.augment.crop import RandomResizedCrop
from ddist.errors import DdistError
from ddist.init import Fixed, Random
from ddist.methods import CLP, LGM
from ddist.methods.probing import Probing
from ddist.networks import MLP
from ddist.seeding import generator
from ddist.synthetic import Pyramid
from tests.pixel import pixel

CROP = RandomResizedCrop(scale=[0.5, 1.0], ratio=[0.8, 1.25], mirror=False)
OPTIONS: dict[type[Probing], dict[str, Any]] = {
    CLP: {"ridge": 0.1, "temperature": 0.3},
    LGM: {"num_heads": 3, "head_std": 1.0},
}
Make = Callable[..., Probing]


@pytest.fixture
def make(common: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make(kind, **options)``: the method in double precision, outside of a Trainer."""
    network = MLP(10, (1, 8, 8), widths=[6], activation="relu").double()
    monkeypatch.setattr(Probing, "global_rank", 0)
    monkeypatch.setattr(Probing, "batch_number", lambda self: 0)

    def build(kind: type[Probing], **changes: Any) -> Probing:
        options = common | {
            "network": network, "init": Fixed("default", 0), "ipc": 2, "views": 3,
            "augment": CROP, "synthetic": partial(pixel(), start="real"),
            "lr": {"images": 0.1, "labels": 0.1},
        }  # fmt: skip
        method = kind(**(options | OPTIONS[kind] | changes)).double()
        method.__dict__["features"] = RealFeatures(method)
        return method

    return build


class RealFeatures:
    """Those of real images in double precision, in the place of what is kept on disk."""

    def __init__(self, method: Probing) -> None:
        self.method = method

    def rows(self, indices: Tensor) -> Tensor:
        return features_of(self.method, self.method.data.images(indices).double())


def features_of(method: Probing, x: Tensor) -> Tensor:
    """The MLP's hidden layer, written out."""
    weights = method.init.held_out(method.network, 1)
    first = {name.rpartition(".")[2]: w[0] for name, w in weights.items() if "body" in name}
    return F.relu(x.flatten(1) @ first["weight"].T + first["bias"])


def by_hand(method: Probing, indices: Tensor) -> Tensor:
    images, labels = method.synthetic()
    streams = [generator(0, "view", 0, 0, v, 0) for v in range(method.views)]
    views = torch.cat([CROP(images, stream) for stream in streams])
    phi, y = features_of(method, views), torch.eye(10).double()[labels.repeat(method.views)]
    phi_real = method.features.rows(indices.flatten())
    classes = torch.arange(10).repeat_interleave(indices.shape[1])
    if isinstance(method, CLP):
        centred = phi - phi.mean(0)
        gram = centred.T @ centred
        penalty = method.ridge * gram.trace() / len(phi) * torch.eye(6).double()
        weight = torch.linalg.inv(gram + penalty) @ centred.T @ (y - y.mean(0))
        logits = (phi_real - phi.mean(0)) @ weight + y.mean(0)
        return F.cross_entropy(logits / method.temperature, classes)
    shape = (3, 6, 10)
    heads = torch.randn(shape, generator=generator(0, "heads", 0, 0)).double()
    distances = []
    for head in heads:
        weight = head.clone().requires_grad_()
        ours, theirs = (
            torch.autograd.grad(F.cross_entropy(f @ weight, t), weight, create_graph=True)[0]
            for f, t in ((phi, y), (phi_real, classes))
        )
        distances.append(1 - (ours * theirs).sum() / (ours.norm() * theirs.norm()))
    return torch.stack(distances).mean()


def gradient(method: Probing, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, method.synthetic.images)[0]
    assert found.abs().max() > 1e-6
    return found


@pytest.fixture
def indices(common: dict[str, Any]) -> Tensor:
    found: Tensor = common["data"].class_indices(8, generator(0, "test"))
    return found


@pytest.mark.parametrize("kind", OPTIONS)
def test_loss_and_gradient_are_the_papers(kind: type[Probing], make: Make, indices: Tensor) -> None:
    method = make(kind)
    loss, expected = method.outer_loss(indices), by_hand(method, indices)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    ours, theirs = gradient(method, loss), gradient(method, expected)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("size", [20, 7])  # a view at a time; parts of views
def test_in_parts_is_the_whole(
    kind: type[Probing], size: int, make: Make, indices: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of the same images, whatever fits into memory: gradients are exact."""
    method = make(kind)
    whole = method.outer_loss(indices)
    expected = gradient(method, whole)
    monkeypatch.setattr(Probing, "at_once", lambda self: size)
    parts = method.outer_loss(indices)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(method, parts), expected, rtol=1e-9, atol=1e-15)


def test_each_step_has_views_and_heads_of_its_own(
    make: Make, indices: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clp, lgm = make(CLP), make(LGM, augment=None)
    assert (clp.views, lgm.views) == (3, 1)  # without augmentation all views are the same
    images = clp.synthetic()[0].detach()
    first, loss = clp.view(images, 0), lgm.outer_loss(indices).detach()
    assert torch.equal(clp.view(images, 0), first) and lgm.outer_loss(indices) == loss
    monkeypatch.setattr(Probing, "batch_number", lambda self: 1)
    assert not torch.equal(clp.view(images, 0), first)
    assert lgm.outer_loss(indices) != loss


@pytest.mark.parametrize("std", [0.1, 10.0])
def test_random_heads_have_the_deviation_that_is_set(
    std: float, make: Make, indices: Tensor
) -> None:
    method = make(LGM, head_std=std, augment=None)
    images, y = method.synthetic()
    phi, real = features_of(method, images), method.features.rows(indices.flatten())
    heads = std * torch.randn(3, 6, 10, generator=generator(0, "heads", 0, 0)).double()
    classes = torch.arange(10).repeat_interleave(indices.shape[1])
    ours, theirs = (
        torch.stack([f.T @ ((f @ w).softmax(1) - torch.eye(10)[t]) / len(f) for w in heads])
        for f, t in ((phi, y), (real, classes))
    )
    cosine = F.cosine_similarity(ours.flatten(1), theirs.flatten(1)).mean()
    torch.testing.assert_close(method.outer_loss(indices), 1 - cosine)


@pytest.mark.parametrize("kind", OPTIONS)
def test_images_learn_through_a_pyramid(kind: type[Probing], make: Make, indices: Tensor) -> None:
    options: dict[str, Any] = dict(pixel().keywords) | {"start": "real"}
    method = make(kind, synthetic=partial(Pyramid, coarsest=2, **options))
    optimizer = torch.optim.Adam(method.synthetic.parameters(), 0.05)
    losses = []
    for _ in range(15):
        loss = method.outer_loss(indices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_clp_learns_labels(make: Make, indices: Tensor) -> None:
    method = make(CLP, synthetic=partial(pixel(), start="real", labels="soft"))
    method.outer_loss(indices).backward()
    logits = method.synthetic.label_logits
    assert isinstance(logits, nn.Parameter) and logits.grad is not None
    assert float(logits.grad.abs().max()) > 0


def test_a_network_that_changes_is_refused(make: Make) -> None:
    """Before anything is done."""
    with pytest.raises(DdistError, match=r"network=backbone.*init\.fixed=true"):
        make(CLP, init=Random("default", 0))


def test_a_killed_run_ends_with_the_same_images(same_after_a_kill: Any) -> None:
    assert same_after_a_kill(
        2, "method=clp", "network=mlp", "init=fixed", "dataset=digits", "dataset.validation=0",
        "ipc=1", "steps=4", "method.real_per_class=8", "method.views=2",
        "evaluation.views=2", "compile=false", "threads=1",
    )  # fmt: skip
