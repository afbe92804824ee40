"""RaT-BPTT: its outer gradient against plain autograd through Adam, and where its windows lie."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist.artifact.dataset import DistilledDataset
from ddist.errors import DdistError
from ddist.methods import DD, RaT
from ddist.objectives import classification
from ddist.seeding import generator
from ddist.synthetic import Pixel

Make = Callable[..., Any]


@pytest.fixture
def make(common: dict[str, Any], monkeypatch: pytest.MonkeyPatch, augments: Any) -> Make:
    """``make(**options)``: a method in double precision, outside of a Trainer: step ``method.at``,
    rank 0."""

    def build(kind: type[Any] = RaT, augment: str = "plain", **changes: Any) -> Any:
        options: dict[str, Any] = {
            "ipc": 1, "student_steps": 6, "window": 3, "min_burn_in": 0, "inner": "adam",
            "student_lr": 0.01, "student_momentum": 0.9, "batch_syn": None, "num_networks": 1,
            "unroll": "checkpoint", "augment": augments[augment], "augment_real": True,
            "objective": classification, "clip": None, "optimizer": torch.optim.Adam,
            "scheduler": None, "lr": {"images": 0.1, "labels": 0.1, "step_sizes": 0.1},
        }  # fmt: skip
        return outside_of_a_trainer(kind(**(common | options | changes)), monkeypatch)

    return build


def outside_of_a_trainer(method: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    method.double()
    method.network.double()
    method.at = 0
    monkeypatch.setattr(type(method), "global_rank", 0)
    monkeypatch.setattr(method, "batch_number", lambda: method.at)
    monkeypatch.setattr(method, "log", lambda *_, **__: None)
    monkeypatch.setattr(method, "draw_networks", lambda num: starts(method, num))
    return method


def starts(method: Any, num: int) -> dict[str, Tensor]:
    drawn = method.init.draw(method.network, num, 0, method.at)
    return {name: w.double() for name, w in drawn.items()}


def real_batch(method: Any, size: int = 40) -> tuple[Tensor, Tensor]:
    x, y = method.data.batch(size, generator(0, "batch"))
    return x.double(), y


def stream(method: Any, k: int = 0) -> torch.Generator:
    return generator(method.seed, "student", 0, method.at, k)


def learned_gradients(method: Any, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(method.synthetic.parameters())))


def assert_same(method: Any, loss: Tensor, expected: Tensor, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    pairs = zip(*(learned_gradients(method, each) for each in (loss, expected)), strict=True)
    for ours, theirs in pairs:
        assert theirs.abs().max() > 1e-5  # there is something to compare
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * theirs.abs().max())


def by_hand(method: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    """All images at every step, without augmentation; plain autograd through the optimizer. Steps
    before the window are cut off from the graph."""
    images, labels = method.synthetic()
    drawn, losses = starts(method, method.num_networks), []
    for k in range(method.num_networks):
        last = method.draw_steps(stream(method, k))
        first = 0 if method.window is None else last - method.window
        w = {name: each[k].clone().requires_grad_() for name, each in drawn.items()}
        m, v = ({name: torch.zeros_like(each) for name, each in w.items()} for _ in range(2))
        eta, beta = method.student_lr, method.student_momentum
        for t in range(last):
            inner = cross_entropy(functional_call(method.network, w, (images,)), labels)
            found = torch.autograd.grad(inner, list(w.values()), create_graph=True)
            g = dict(zip(w, found, strict=True))
            if method.inner == "sgd":
                m = {n: beta * m[n] + g[n] for n in w}
                w = {n: w[n] - eta * m[n] for n in w}
            else:
                m = {n: beta * m[n] + (1 - beta) * g[n] for n in w}
                v = {n: 0.999 * v[n] + 0.001 * g[n] ** 2 for n in w}
                far = {n: m[n] / (1 - beta ** (t + 1)) for n in w}
                root = {n: (v[n] / (1 - 0.999 ** (t + 1)) + 1e-16).sqrt() for n in w}
                w = {n: w[n] - eta * far[n] / root[n] for n in w}
            if t < first:
                w = {n: each.detach().requires_grad_() for n, each in w.items()}
                m, v = ({n: each.detach() for n, each in some.items()} for some in (m, v))
        losses.append(cross_entropy(functional_call(method.network, w, (batch[0],)), batch[1]))
    return torch.stack(losses).mean()


def pixel(labels: str) -> Any:
    return partial(
        Pixel, start="noise", images="learned", labels=labels, label_logit=1.0, factor=1,
        bounded=False, scarce="refuse",
    )  # fmt: skip


@pytest.mark.parametrize("graph", ["checkpoint", "autograd", "auto"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_loss_and_gradients_are_the_papers(make: Make, graph: str, labels: str, inner: str) -> None:
    lr = {"adam": 0.01, "sgd": 0.1}[inner]
    method = make(unroll=graph, synthetic=pixel(labels), inner=inner, student_lr=lr)
    while method.draw_steps(stream(method)) < 5:  # one with steps before its window
        method.at += 1
    batch = real_batch(method)
    assert_same(method, method.outer_loss(batch), by_hand(method, batch))
    assert len(list(method.synthetic.parameters())) == (2 if labels == "soft" else 1)


def test_what_lies_before_the_window_is_not_differentiated(make: Make) -> None:
    """The gradient of the whole training is another, at the same loss."""
    cut, whole = make(window=2, student_steps=6), make(window=None, student_steps=6)
    cut.draw_steps = lambda stream: 6
    batch = real_batch(cut)
    losses = [method.outer_loss(batch) for method in (cut, whole)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    ours, theirs = (learned_gradients(*each)[0] for each in zip((cut, whole), losses, strict=True))
    assert (ours - theirs).norm() > 0.05 * theirs.norm()
    assert_same(whole, whole.outer_loss(batch), by_hand(whole, batch))


def test_full_backpropagation_through_time_is_dd_with_one_batch(
    make: Make, make_dd: Callable[..., DD], common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = make(window=None, inner="sgd", student_momentum=0.0, student_lr=0.1, ipc=2)
    dd = make_dd(ipc=2, student_steps=1, student_epochs=6, step_size=0.1)
    outside_of_a_trainer(dd, monkeypatch)
    batch = real_batch(full)
    losses = [method.outer_loss(batch) for method in (full, dd)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)  # dd's step size is in single precision
    ours, theirs = (
        torch.autograd.grad(loss, method.synthetic.images)[0]
        for loss, method in zip(losses, (full, dd), strict=True)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-9)


def test_several_students_are_averaged_each_with_its_own_end(make: Make) -> None:
    method = make(num_networks=4)
    assert len({method.draw_steps(stream(method, k)) for k in range(4)}) > 1
    batch = real_batch(method)
    assert_same(method, method.outer_loss(batch), by_hand(method, batch))


def test_windows_end_anywhere_with_the_same_probability(make: Make) -> None:
    method = make(student_steps=12, window=3)
    drawn = [method.draw_steps(generator(0, "student", 0, n, 0)) for n in range(4000)]
    counts = torch.bincount(torch.tensor(drawn))
    assert counts[:3].sum() == 0 and len(counts) == 13
    expected = 4000 / 10
    assert ((counts[3:] - expected) ** 2 / expected).sum() < 27.9  # chi^2 of 9, 99.9 %
    assert make(window=None).draw_steps(torch.Generator()) == 6
    assert make(window=6).draw_steps(torch.Generator()) == 6
    late = make(student_steps=12, window=3, min_burn_in=7)
    assert {late.draw_steps(generator(0, "student", 0, n, 0)) for n in range(99)} == {10, 11, 12}


def test_draws_differ_by_step_and_rank_and_come_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a resumed run draws depends on the step alone."""
    method = make(augment="dsa", ipc=2, batch_syn=5, student_steps=20)
    one = starts(method, 1)  # whatever the step: the draws alone make the difference
    monkeypatch.setattr(method, "draw_networks", lambda num: one)
    batch = real_batch(method)

    def loss(step: int, rank: int = 0) -> float:
        method.at = step
        monkeypatch.setattr(RaT, "global_rank", rank)
        return float(method.outer_loss(batch).detach())

    first = [loss(step) for step in range(4)]
    assert len({*first, loss(0, rank=1), loss(1, rank=1)}) == 6
    assert loss(2) == first[2]


@pytest.mark.parametrize("augment_real", [True, False])
def test_augmented_batches_have_the_gradient_of_plain_autograd(
    make: Make, augment_real: bool
) -> None:
    """Rebuilt steps see the same random numbers; real images theirs, or none."""
    options = {"augment": "dsa", "augment_real": augment_real, "batch_syn": 4, "ipc": 2}
    methods = [make(unroll=graph, **options) for graph in ("checkpoint", "autograd")]
    batch = real_batch(methods[0])
    losses = [method.outer_loss(batch) for method in methods]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    ours, theirs = (learned_gradients(*each)[0] for each in zip(methods, losses, strict=True))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)
    method = methods[0]
    seen: list[Tensor] = []
    method.objective = lambda logits, y: (seen.append(logits), classification(logits, y))[1]
    method.outer_loss(batch)
    first = generator(method.seed, "student", 0, 0, 0)
    plain = functional_call(method.network, method.train_student(
        {n: w[0] for n, w in starts(method, 1).items()}, first), (batch[0],))  # fmt: skip
    assert torch.equal(plain, seen[0]) != augment_real


def test_only_synthetic_data_are_parameters(make: Make) -> None:
    method = make(clip=2.0)
    assert {name for name, _ in method.named_parameters()} == {"synthetic.images"}
    assert "clip.norm" in method.state_dict() and "clip.norm" not in make().state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 7}, r"method.window is null \(all steps\) or at most .*=6, not 7"),
        ({"min_burn_in": 4}, "method.min_burn_in is at most 3, the steps .*, not 4"),
        ({"min_burn_in": 1, "window": None}, "method.min_burn_in is at most 0, .*, not 1"),
    ],
)
def test_what_cannot_be(make: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DdistError, match=message):
        make(**changes)


# -- from the shell --------------------------------------------------------------------------------

QUICK = (
    "method=rat", "recipe=rat/_paper", "network=mlp", "network.widths=[16]",
    "method.student_steps=12",
    "method.window=4", "method.student_lr=0.02", "method.batch_real=100",
    "evaluation.num_networks=1", "task.baseline=false", "compile=false",
)  # fmt: skip
LEARNS = (
    "steps=80", "method.lr.images=0.1", "network.widths=[32]", "task.baseline=true",
    "evaluation.epochs=100",
)  # fmt: skip


def test_a_run_that_is_killed_goes_on(same_after_a_kill: Callable[..., bool]) -> None:
    more = ("synthetic.labels=soft", "method.lr.labels=0.1", "evaluation.epochs=1", "steps=7")
    assert same_after_a_kill(4, *QUICK, *more)


@pytest.mark.slow
def test_it_learns(ddist: Any, results_of: Callable[..., dict[str, Any]]) -> None:
    found = results_of(*QUICK, *LEARNS)
    assert (found["protocol"], found["steps"]) == ("dc2021_dsa", 80)
    ours, random = found["evaluation"][0], found["baselines"]["random"]
    assert ours["accuracy_mean"] > random["accuracy_mean"] + 0.1
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.step_sizes is None and distilled.images.shape == (10, 1, 8, 8)
