"""DD: its outer gradient against the paper's equation written out, and that it learns."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softplus

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Replay
from ddist.evaluation.protocol import Context
from ddist.init import Fixed
from ddist.methods import DD, Selection
from ddist.networks import MLP
from ddist.seeding import generator
from tests.trainers import quiet_trainer

from_fixture = Callable[..., DD]


def float64(method: DD, monkeypatch: pytest.MonkeyPatch) -> DD:
    """The method in double precision and outside of a Trainer: step 0, rank 0, nothing logged."""
    method.double()
    method.network.double()
    monkeypatch.setattr(
        method, "draw_networks", lambda num: method.init.draw(method.network, num, 0, 0)
    )
    monkeypatch.setattr(method, "log", lambda *args, **kwargs: None)
    return method


def real_batch(data: RealData) -> tuple[Tensor, Tensor]:
    x, y = data.batch(64, generator(0, "batch"))
    return x.double(), y


def gradients(method: DD, loss: Tensor) -> list[Tensor]:
    parameters = [p for p in method.synthetic.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, parameters, allow_unused=True))


def by_hand(method: DD, batch: tuple[Tensor, Tensor], first: int = 0) -> Tensor:
    """Equations 2 to 4 of the paper: one network after the other, plain autograd, no ddist.

    Steps before ``first`` are cut off from the graph.
    """
    synthetic, network = method.synthetic, method.network
    images, step_of = synthetic.images, method.step_index
    assert step_of is not None and synthetic.step_sizes is not None
    labels = synthetic.classes
    if synthetic.label_logits is not None:
        labels = synthetic.label_logits.exp() / synthetic.label_logits.exp().sum(1, keepdim=True)
    etas = softplus(synthetic.step_sizes.raw)
    starts = method.init.draw(network, method.num_networks, 0, 0)
    losses = []
    for k in range(method.num_networks):
        theta = {name: w[k].clone().requires_grad_() for name, w in starts.items()}
        for t, (epoch, step) in enumerate(product(*map(range, etas.shape))):
            chosen = step_of == step
            inner = cross_entropy(
                functional_call(network, theta, (images[chosen],)), labels[chosen]
            )
            g = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
            pairs = zip(theta.items(), g, strict=True)
            theta = {name: w - etas[epoch, step] * dw for (name, w), dw in pairs}
            if t < first:
                theta = {name: w.detach().requires_grad_() for name, w in theta.items()}
        losses.append(cross_entropy(functional_call(network, theta, (batch[0],)), batch[1]))
    return torch.stack(losses).mean()


def assert_same(ours: list[Tensor], expected: list[Tensor]) -> None:
    assert len(ours) == len(expected)
    for mine, theirs in zip(ours, expected, strict=True):
        assert theirs.abs().max() > 1e-6  # there is something to compare
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("graph", ["checkpoint", "autograd", "auto"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize(("num_networks", "steps", "epochs"), [(1, 2, 3), (3, 2, 3), (3, 3, 1)])
def test_outer_gradient_is_the_papers(
    make_dd: from_fixture,
    common: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    graph: str,
    labels: str,
    num_networks: int,
    steps: int,
    epochs: int,
) -> None:
    method = make_dd(
        ipc=4,  # spread unevenly over 3 steps
        student_steps=steps,
        student_epochs=epochs,
        num_networks=num_networks,
        unroll=graph,
        synthetic=partial(common["synthetic"], labels=labels, label_logit=1.0),
    )
    float64(method, monkeypatch)
    batch = real_batch(method.data)
    loss, expected = method.outer_loss(batch), by_hand(method, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    ours = gradients(method, loss)
    assert len(ours) == (3 if labels == "soft" else 2)
    assert_same(ours, gradients(method, expected))


def test_networks_of_a_draw_differ_and_so_do_their_gradients(
    make_dd: from_fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, three = (float64(make_dd(num_networks=k), monkeypatch) for k in (1, 3))
    three.synthetic.load_state_dict(one.synthetic.state_dict())
    batch = real_batch(one.data)
    first, mean = (gradients(m, m.outer_loss(batch))[0] for m in (one, three))
    assert (first - mean).abs().max() > 0.1 * first.abs().max()


def test_a_window_cuts_the_graph_and_not_the_training(
    make_dd: from_fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (float64(make_dd(window=w), monkeypatch) for w in (None, 3))
    batch = real_batch(whole.data)
    loss = cut.outer_loss(batch)
    torch.testing.assert_close(loss, whole.outer_loss(batch))
    ours = gradients(cut, loss)
    assert_same(ours, gradients(cut, by_hand(cut, batch, first=3)))
    assert not torch.allclose(ours[0], gradients(whole, whole.outer_loss(batch))[0])
    raw = dict(zip(dict(cut.synthetic.named_parameters()), ours, strict=True))["step_sizes.raw"]
    assert (raw.flatten() != 0).tolist() == [False] * 3 + [True] * 3


def test_only_synthetic_data_are_parameters(make_dd: from_fixture) -> None:
    method = make_dd()
    assert {name for name, _ in method.named_parameters()} == {
        "synthetic.images",
        "synthetic.step_sizes.raw",
    }
    assert not any("network" in name for name in method.state_dict())


def test_parameter_groups_have_their_own_rates(
    make_dd: from_fixture, common: dict[str, Any]
) -> None:
    rates = {"images": 1.0, "labels": 2.0, "step_sizes": 3.0}
    method = make_dd(lr=rates, synthetic=partial(common["synthetic"], labels="soft"))
    assert {g["name"]: g["lr"] for g in method.parameter_groups()} == rates
    frozen = make_dd(lr=rates, synthetic=partial(common["synthetic"], images="frozen"))
    assert [g["name"] for g in frozen.parameter_groups()] == ["step_sizes"]


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_what_the_groups_override_is_refused_of_the_optimizer(
    make_dd: from_fixture, name: str
) -> None:
    optimizer = partial(torch.optim.AdamW, **{name: 0.1})
    with pytest.raises(DdistError, match=f"set method.{name}.images"):
        make_dd(optimizer=optimizer)


def test_weight_decay_is_of_its_group_alone(make_dd: from_fixture) -> None:
    method = make_dd(weight_decay={"images": 0.25})
    decay = {g["name"]: g["weight_decay"] for g in method.parameter_groups()}
    assert decay == {"images": 0.25, "step_sizes": 0.0}


def test_steps_without_images(make_dd: from_fixture) -> None:
    with pytest.raises(DdistError, match="at most 2"):
        make_dd(student_steps=3)


def test_a_step_takes_all_tiles_of_its_images(
    make_dd: from_fixture, common: dict[str, Any]
) -> None:
    method = make_dd(synthetic=partial(common["synthetic"], factor=2), ipc=3)
    assert method.sizes == [80, 40]  # 2 and 1 stored images of 10 classes, 4 tiles each
    trained = method.train_student(method.init.draw(method.network, 1, 0, 0))
    assert all(w.isfinite().all() for w in trained.values())


def train(method: DD, steps: int, **options: Any) -> list[float]:
    """Lightning's own loop, as a run has it; the outer loss of each step."""
    method.data.batch_size = 256
    losses: list[float] = []
    trainer = quiet_trainer(steps, use_distributed_sampler=False, **options)
    outer_loss = method.outer_loss
    method.outer_loss = lambda batch: record(losses, outer_loss(batch))  # type: ignore[method-assign]
    trainer.fit(method, datamodule=method.data)
    assert trainer.global_step == steps
    return losses


def record(losses: list[float], loss: Tensor) -> Tensor:
    losses.append(loss.item())
    return loss


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
@pytest.mark.filterwarnings("ignore:.*train_dataloader.*workers")
def test_it_learns_and_beats_random_real_images(
    make_dd: from_fixture, make_judge: Callable[..., Replay], common: dict[str, Any]
) -> None:
    network = MLP(10, common["data"].image_shape, widths=[32], activation="relu")
    common |= {"init": Fixed("xavier_normal", 0), "network": network}
    method = make_dd(**common, ipc=1, student_steps=1, step_size=0.02)
    losses = train(method, 120)
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    random = Selection(**common, ipc=1, student_steps=1, start="real")
    judge = make_judge()
    ours, theirs = (
        float(
            judge.accuracies(
                as_artifact(each), Context(method.data, method.data.test, network, method.init, 0)
            )[0].mean()
        )
        for each in (method, random)
    )
    assert ours > 0.75 and ours > theirs + 0.15


def as_artifact(method: DD | Selection) -> DistilledDataset:
    data = method.data
    meta = {
        "dataset": data.name,
        "method": "test",
        "ipc": 1,
        "num_classes": data.num_classes,
        "class_names": data.class_names,
        "image_shape": data.image_shape,
    }
    state = data.normalization.state()
    return DistilledDataset(**method.tensors(), normalization=state, meta=meta, config="")
