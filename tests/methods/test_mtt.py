"""Trajectory matching against formulas written out, with experts that are made up."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import Random
from ddist.inner import parts
from ddist.methods import DATM, DDPP, MTT
from ddist.networks import MLP, ConvNet, Weights
from tests.pixel import pixel

NUM_EXPERTS, EPOCHS = 3, 6


class MadeUp:
    """Experts whose weights are random: epoch t of expert k always the same."""

    num_experts = NUM_EXPERTS

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.asked: list[tuple[int, int]] = []

    def prepare(self, network: nn.Module, epochs: int) -> None:
        self.prepared.append(epochs)

    def read(self, network: nn.Module, expert: int, epoch: int) -> Weights:
        self.asked.append((expert, epoch))
        drawn = Random("default", 7).draw(network, 1, expert, epoch)
        return {name: w[0].double() for name, w in drawn.items()}


@pytest.fixture
def make(
    common: dict[str, Any], digits: RealData, monkeypatch: pytest.MonkeyPatch, augments: Any
) -> Callable[..., Any]:
    """``make(kind, **options)``: a method in double precision, outside of a Trainer."""

    def build(kind: type[MTT] = MTT, augment: str = "plain", **changes: Any) -> MTT:
        options: dict[str, Any] = {
            "ipc": 1, "student_steps": 3, "expert_epochs": 2, "min_start_epoch": 0,
            "max_start_epoch": 4, "batch_syn": None, "step_size": 0.1,
            "log_step_size": False, "unroll": "checkpoint",
            "label_start": "classes", "num_teachers": 2, "max_loss": None, "nearest": False,
            "ema": None, "clip": None, "augment": augments[augment], "trajectories": MadeUp(),
            "optimizer": partial(torch.optim.SGD, momentum=0.5), "scheduler": None,
            "lr": {"images": 0.1, "labels": 0.1, "step_sizes": 0.01},
        }  # fmt: skip
        method = kind(**(common | options | changes)).double()
        method.at = 0  # type: ignore[assignment]
        monkeypatch.setattr(kind, "global_step", property(lambda self: self.at))
        monkeypatch.setattr(kind, "global_rank", 0)
        monkeypatch.setattr(method, "batch_number", lambda: method.at)
        monkeypatch.setattr(method, "log", lambda *_, **__: None)
        return method

    return build


def soft(labels: str = "soft") -> Any:
    return pixel(labels=labels)


EMPTY: Any = torch.empty(0)


def by_hand(method: MTT, start: Weights, target: Weights) -> Tensor:
    """Plain autograd on all images at every step, without augmentation."""
    images, labels = method.synthetic()
    eta = method.learned_step_sizes()[0, 0]
    w = {name: each.clone().requires_grad_() for name, each in start.items()}
    for _ in range(method.student_steps):
        inner = cross_entropy(functional_call(method.network, w, (images,)), labels)
        g = torch.autograd.grad(inner, list(w.values()), create_graph=True)
        w = {name: w[name] - eta * each for name, each in zip(w, g, strict=True)}
    above = sum((w[name] - target[name]).square().sum() for name in w)
    return above / sum((start[name] - target[name]).square().sum() for name in w)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("batch_syn", [None, 7])
def test_the_graph_is_chosen_by_the_images_of_a_step(
    make: Any, monkeypatch: pytest.MonkeyPatch, factor: int, batch_syn: int | None
) -> None:
    method = make(synthetic=pixel(factor=factor), batch_syn=batch_syn, unroll="auto")
    images, _ = method.synthetic()
    assert method.unrolled() == (batch_syn or len(images), 3)
    one = parts.footprint(method.network, method.data.image_shape)
    needed = one.unrolled(*method.unrolled(), "autograd")
    for free, graph in ((2 * needed, "autograd"), (0, "checkpoint")):
        monkeypatch.setattr(parts, "free_memory", lambda device, free=free: free)
        method.__dict__.pop("graph", None)
        assert method.graph == graph


@pytest.mark.parametrize("graph", ["checkpoint", "autograd", "auto"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_loss_and_gradients_are_the_papers(make: Any, graph: str, labels: str) -> None:
    method = make(unroll=graph, synthetic=soft(labels))
    loss = method.outer_loss(EMPTY)
    (expert, epoch), (same, later) = method.trajectories.asked
    assert expert == same and later == epoch + 2 and 0 <= epoch < 4
    read = method.trajectories.read
    expected = by_hand(method, *(read(method.network, expert, each) for each in (epoch, later)))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    learned = list(method.synthetic.parameters())
    assert len(learned) == (3 if labels == "soft" else 2)
    pairs = zip(*(torch.autograd.grad(each, learned) for each in (loss, expected)), strict=True)
    for ours, theirs in pairs:
        assert theirs.abs().max() > 1e-9
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-13)


def test_the_nearest_of_its_steps_is_atts(make: Any) -> None:
    """distill_ATT.py: of all steps the one with the least L1 distance to the target, and the loss
    and gradient of so many steps."""
    method = make(nearest=True, student_steps=5, step_size=0.5)
    read, asked = method.trajectories.read, []
    start = read(method.network, 0, 0)
    ends = [method.train_student(start, torch.Generator())]
    for steps in range(1, 5):
        method.student_steps = steps
        ends.insert(-1, method.train_student(start, torch.Generator()))
    method.student_steps = 5
    ends = [{name: w.detach() for name, w in end.items()} for end in ends]
    stream = torch.Generator().manual_seed(0)
    for nearest in (2, 4, 5, 1):
        target = {
            name: w + 1e-4 * torch.randn(w.shape, generator=stream)
            for name, w in ends[nearest - 1].items()
        }
        method.draw_experts = lambda stream, target=target: (start, target)
        loss = method.outer_loss(EMPTY)
        l1 = [sum((end[name] - target[name]).abs().sum() for name in target) for end in ends]
        index, current = 0, 1e9
        for step, distance in enumerate(l1):
            if current >= distance:
                index, current = step, distance
        asked.append(index + 1)
        method.student_steps = index + 1
        expected = by_hand(method, start, target)
        method.student_steps = 5
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
        images = method.synthetic.images
        ours, theirs = (torch.autograd.grad(each, images)[0] for each in (loss, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-13)
    assert asked == [2, 4, 5, 1]


def test_the_loss_is_1_at_step_size_0_and_0_where_the_student_is_the_expert(make: Any) -> None:
    still = make(step_size=1e-12)
    torch.testing.assert_close(still.outer_loss(EMPTY).item(), 1.0, rtol=0, atol=1e-9)
    method = make()
    start = method.trajectories.read(method.network, 0, 0)
    end = method.train_student(start, torch.Generator())
    method.draw_experts = lambda stream: (start, {name: w.detach() for name, w in end.items()})
    assert method.outer_loss(EMPTY).item() == 0


def test_augmented_steps_have_the_gradient_of_plain_autograd(make: Any) -> None:
    """Rebuilt steps see the same random numbers; batches and draws differ from step to step."""
    options = {"augment": "dsa", "batch_syn": 4, "ipc": 2, "student_steps": 7}
    found = []
    for graph in ("checkpoint", "autograd"):
        method = make(unroll=graph, **options)
        loss = method.outer_loss(EMPTY)
        found.append((loss, *torch.autograd.grad(loss, list(method.synthetic.parameters()))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)
    other = make(**options)
    other.at = 1
    assert other.outer_loss(EMPTY) != found[0][0]


def test_experts_and_epochs_are_drawn_uniformly_and_by_step(make: Any) -> None:
    method = make(min_start_epoch=1, step_size=1e-6, student_steps=1)
    for method.at in range(60):
        method.outer_loss(EMPTY)
    drawn = method.trajectories.asked[::2]
    assert {expert for expert, _ in drawn} == set(range(NUM_EXPERTS))
    assert {epoch for _, epoch in drawn} == {1, 2, 3}


def descend(method: MTT, steps: int) -> list[float]:
    """Outer steps as a Trainer takes them; the losses."""
    optimizer = method.configure_optimizers()
    losses = []
    for method.at in range(steps):  # type: ignore[attr-defined]
        method.on_train_batch_start(EMPTY, 0)
        loss = method.outer_loss(EMPTY)
        optimizer.zero_grad()  # type: ignore[union-attr]
        loss.backward()
        method.on_before_optimizer_step(optimizer)  # type: ignore[arg-type]
        method.configure_gradient_clipping(optimizer)  # type: ignore[arg-type]
        optimizer.step()  # type: ignore[union-attr]
        losses.append(loss.item())
    method.at = steps  # type: ignore[attr-defined]
    return losses


@pytest.fixture(autouse=True)
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MTT, "clip_gradients", lambda *_, **__: None)


def test_outer_steps_with_too_large_a_loss_change_nothing(make: Any) -> None:
    losses = descend(make(), 6)
    bound = sorted(losses)[3]
    method = make(max_loss=bound)
    states = []
    keep = method.on_before_optimizer_step

    def spy(optimizer: Any) -> None:
        states.append(method.synthetic.images.detach().clone())
        keep(optimizer)

    method.on_before_optimizer_step = spy
    found = descend(method, 6)
    states.append(method.synthetic.images.detach())
    for loss, before, after in zip(found, states[:-1], states[1:], strict=True):
        assert torch.equal(before, after) == (loss > bound)
    assert method.held_steps == sum(loss > bound for loss in found) > 0


def test_a_loss_that_is_no_number_is_not_held(make: Any) -> None:
    method = make(max_loss=1.0)
    assert method.held(torch.tensor(float("nan"))).isnan()
    assert method.held_steps == 0


def test_the_moving_average_is_the_artifact(make: Any) -> None:
    method = make(ema=0.5, lr={"images": 3.0, "step_sizes": 0.0})
    average = method.synthetic.images.detach().clone()
    optimizer_steps = []
    method.update_average, update = (
        lambda: (optimizer_steps.append(method.synthetic.images.detach().clone()), update())[1],
        method.update_average,
    )
    descend(method, 4)
    artifact = method.tensors()
    for step, images in enumerate(optimizer_steps[1:], 1):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * images
    torch.testing.assert_close(artifact["images"], average.float())
    torch.testing.assert_close(method.tensors()["images"], average.float())  # counted once
    raw = method.variants()["raw"]["images"]
    torch.testing.assert_close(raw, method.synthetic.images.detach().float())
    assert not torch.equal(raw, artifact["images"])
    assert make().variants() == {}


def test_gradients_are_cut_at_a_multiple_of_their_moving_average(make: Any) -> None:
    method = make(clip=2.0)
    optimizer = method.configure_optimizers()
    (images, size) = (group["params"][0] for group in optimizer.param_groups)
    average, expected = None, []
    for norm in (1.0, 1.5, 30.0, 1.0):
        images.grad = torch.zeros_like(images)
        images.grad.view(-1)[0], size.grad = norm * 0.6, torch.full_like(size, norm * 0.8)
        method.configure_gradient_clipping(optimizer)
        cut = norm if average is None else min(norm, 2 * average)
        average = cut if average is None else 0.9 * average + 0.1 * cut
        expected.append(cut)
        assert torch.hypot(images.grad.norm(), size.grad.norm()).item() == pytest.approx(cut)
        assert images.grad.view(-1)[0].item() == pytest.approx(0.6 * cut)
    assert expected[2] == pytest.approx(2 * (0.9 + 0.15))


def test_steps_that_change_nothing_leave_the_clip_alone(make: Any) -> None:
    method = make(clip=2.0, max_loss=1e9)
    descend(method, 2)
    norm = method.clip.norm.clone()
    assert norm > 0
    method.max_loss = 0.0
    descend(method, 2)
    assert method.held_steps == 2 and torch.equal(method.clip.norm, norm)


def test_a_step_size_beyond_reason_stops_the_run(make: Any) -> None:
    method = make()
    method.check_step_size()
    with torch.no_grad():
        method.synthetic.step_sizes.raw.fill_(30.0)
    with pytest.raises(DdistError, match=r"step size became 30 at step 0, from 0.1 .* 0.01\)"):
        method.check_step_size()


@pytest.mark.parametrize("pull", [1e-3, 0.5, 1e9, -1e9])
def test_a_step_size_whose_logarithm_is_learned_changes_little_in_a_step(
    make: Any, pull: float
) -> None:
    """However steep the loss is: by descent along log(eta), whose gradient is cut at 1."""
    method = make(log_step_size=True, step_size=0.4, lr={"images": 0.0, "step_sizes": 0.05})
    optimizer = method.configure_optimizers()
    before = method.step_sizes().item()
    (pull * method.learned_step_sizes().log()).sum().backward()
    method.on_before_optimizer_step(optimizer)
    optimizer.step()
    moved = math.log(method.step_sizes().item() / before)
    assert moved == pytest.approx(-0.05 * max(-1.0, min(1.0, pull)), rel=0.05)
    method.check_step_size()


def test_a_step_size_that_is_not_given_starts_where_the_loss_is_smallest(make: Any) -> None:
    method = make(step_size=None, log_step_size=True)
    method.setup("fit")
    size = method.step_sizes().item()
    assert size == pytest.approx(method.step_size)
    near = {factor: method.mean_distance_at(size * factor) for factor in (0.5, 1.0, 2.0)}
    assert near[1.0] < min(near[0.5], near[2.0]) and near[1.0] < 1
    again = make(step_size=None, log_step_size=True)
    again.setup("fit")
    assert again.step_size == method.step_size  # also after a kill


@pytest.mark.parametrize("prune", ["mask", "gate"])
def test_a_subclass_starts_its_step_size_by_the_plain_distance(make: Any, prune: str) -> None:
    """What DDPP leaves out depends on the step size, so its distance cannot compare sizes."""
    plain = make(step_size=None, log_step_size=True)
    pruned = make(DDPP, prune=prune, threshold=0.5, step_size=None, log_step_size=True)
    sizes = (0.05, 0.2, 0.8)
    expected = [plain.mean_distance_at(size) for size in sizes]
    assert [pruned.mean_distance_at(size) for size in sizes] == expected
    assert pruned.held_steps == 0


def test_pruned_weights_leave_the_distance(make: Any) -> None:
    method = make(DDPP, prune="mask", threshold=0.3)
    start, target = (method.trajectories.read(method.network, 0, t) for t in (0, 2))
    end = {name: w + 0.05 for name, w in start.items()}
    a, b, c = (torch.cat([w.flatten() for w in each.values()]) for each in (end, target, start))
    kept = (a * b > 0) & (torch.minimum(a.abs(), b.abs()) >= 0.3 * torch.maximum(a.abs(), b.abs()))
    assert 0 < kept.sum() < len(kept)
    expected = (a - b)[kept].square().sum() / (c - b)[kept].square().sum()
    torch.testing.assert_close(method.distance(end, target, start), expected)
    same = make(DDPP, prune="mask", threshold=0.0)
    plain = make().distance(end, target, start)
    torch.testing.assert_close(same.distance(end, target, start), plain)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_gate_skips_outer_steps_that_match_too_badly(make: Any, threshold: float) -> None:
    method = make(DDPP, prune="gate", threshold=threshold)
    before = method.synthetic.images.detach().clone()
    descend(method, 3)
    assert torch.equal(before, method.synthetic.images.detach()) == (threshold == 1.0)
    assert method.held_steps == 3 * threshold


def datm(make: Any, **changes: Any) -> Any:
    options = {"first_max_start_epoch": 2, "growth_steps": 10, "candidates": 0, "shallow": 0.0,
               "synthetic": soft(), "label_start": "experts"}  # fmt: skip
    return make(DATM, **(options | changes))


def test_the_window_of_start_epochs_grows(make: Any) -> None:
    method = datm(make, min_start_epoch=1, max_start_epoch=5)
    windows = []
    for method.at in (0, 3, 4, 7, 10, 99):
        windows.append(method.start_epochs())
    assert windows == [(1, 2), (1, 2), (1, 3), (1, 4), (1, 5), (1, 5)]


@pytest.mark.parametrize(
    ("shallow", "kept"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (0.75, 3), (0.99, 3)]
)
def test_deep_layers_alone_are_matched(make: Any, shallow: float, kept: int) -> None:
    """PAD's filter: of three convolutions and a linear layer, the share that comes first is left
    out of both norms, with its biases and normalisation."""
    network = ConvNet(10, (1, 8, 8), 3, 4, "instance", "avg", "relu")
    method = datm(make, shallow=shallow)
    end, target, start = (
        {name: w[0].double() for name, w in Random("default", seed).draw(network, 1).items()}
        for seed in (1, 2, 3)
    )
    firsts = [name for name, w in network.named_parameters() if w.ndim > 1]
    names = list(target)
    matched = names[names.index(firsts[kept]) :]
    above = sum((end[name] - target[name]).square().sum() for name in matched)
    below = sum((start[name] - target[name]).square().sum() for name in matched)
    torch.testing.assert_close(method.distance(end, target, start), above / below)


def test_soft_labels_start_at_the_mean_logits_of_experts_that_agree(make: Any) -> None:
    method = datm(make, ipc=3, num_teachers=3)
    logits = torch.randn(3, 30, 10, generator=torch.Generator().manual_seed(1)).double()
    method.ask_experts = lambda parts: iter([logits])
    method.setup("fit")
    assert method.trajectories.prepared == [5]
    kinds = set()
    for i, own in enumerate(method.synthetic.classes.tolist()):
        agree = [k for k in range(3) if int(logits[k, i].argmax()) == own]
        kinds.add(len(agree))
        expected = logits[agree or [0, 1, 2], i].mean(0)
        torch.testing.assert_close(method.synthetic.label_logits[i].detach(), expected)
    assert {0, 1} <= kinds


def test_experts_are_asked_at_their_last_epoch(make: Any) -> None:
    method = make(label_start="experts", synthetic=soft("given"))
    method.setup("fit")
    assert method.trajectories.asked == [(0, 5), (1, 5)]
    x, _ = method.synthetic()
    weights = [method.trajectories.read(method.network, k, 5) for k in (0, 1)]
    logits = [functional_call(method.network, w, (x,)) for w in weights]
    method.trajectories.asked.clear()
    found = list(method.ask_experts(x.split(4)))
    assert [each.shape for each in found] == [(2, 4, 10), (2, 4, 10), (2, 2, 10)]
    torch.testing.assert_close(torch.cat(found, 1), torch.stack(logits))
    assert len(method.trajectories.asked) == 2  # once for all parts
    learned = [name for name, p in method.synthetic.named_parameters() if p.requires_grad]
    assert learned == ["images", "step_sizes.raw"]  # given labels are not learned


@pytest.mark.parametrize("at_once", [1000, 30])
def test_images_start_where_most_experts_are_right(
    make: Any, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("ddist.methods.datm.AT_ONCE", at_once)
    method = datm(make, ipc=2, candidates=5)
    shown: list[Tensor] = []

    def bright(x: Tensor) -> Tensor:
        return x[:, 0, :4].flatten(1).mean(1) > 0

    def ask(parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """The experts are right where an image's first pixels are bright."""
        for x in parts:
            first = sum(map(len, shown)) % 100
            own = torch.arange(first, first + len(x)) // (2 if len(x) == 20 else 10)
            shown.append(x)
            guess = torch.where(bright(x), own % 10, (own + 1) % 10)
            yield nn.functional.one_hot(guess, 10).double().expand(2, -1, -1)

    method.ask_experts = ask
    method.setup("fit")
    *parts, last = shown
    assert [len(x) for x in parts] == ([100] if at_once == 1000 else [30, 30, 30, 10])
    assert len(last) == 20
    asked = torch.cat(parts)
    right = bright(asked).view(10, 10)
    assert 0 < right.sum() < 100
    chosen = method.synthetic.images.detach().float()
    for c in range(10):
        candidates = asked.view(10, 10, *chosen.shape[1:])[c]
        places = [
            next(i for i in range(10) if torch.allclose(candidates[i], image))
            for image in chosen[2 * c : 2 * c + 2]
        ]
        assert len(set(places)) == 2
        assert sum(right[c][places]) == min(2, int(right[c].sum()))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (MTT, {"min_start_epoch": 4}, "leave no epoch to start from"),
        (
            DATM,
            {"first_max_start_epoch": 9, "growth_steps": 1, "candidates": 0, "shallow": 0.0},
            "at most",
        ),
    ],
)
def test_what_cannot_be(make: Any, kind: type, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DdistError, match=message):
        make(kind, **changes)


def test_experts_labels_need_soft_ones(make: Any) -> None:
    with pytest.raises(DdistError, match=r"set synthetic.labels=soft \(learned\) or given"):
        make(label_start="experts").setup("fit")


def test_the_network_is_not_learned(make: Any) -> None:
    method = make()
    assert isinstance(method.network, MLP)
    assert {name for name, _ in method.named_parameters()} == {
        "synthetic.images", "synthetic.step_sizes.raw"
    }  # fmt: skip


QUICK = (
    "network=mlp", "network.widths=[12]", "ipc=2", "trajectories.num_experts=2",
    "method.max_start_epoch=2", "method.student_steps=3", "trajectories.batch_size=500",
    "evaluation.num_networks=1", "evaluation.epochs=1", "task.baseline=false", "compile=false",
    "steps=6",
)  # fmt: skip


def test_ftd_is_resumed_exactly_with_its_average(same_after_a_kill: Any) -> None:
    assert same_after_a_kill(
        3, "method=ftd", "recipe=ftd/_paper", "method.ema=0.5", "method.clip=2", *QUICK
    )


def test_both_sets_of_ftd_are_evaluated(results_of: Any) -> None:
    results = results_of("method=ftd", "recipe=ftd/_paper", *QUICK)
    assert results["protocol"] == "mtt"
    assert results["baselines"].keys() == {"raw"}


@pytest.mark.parametrize(
    "words",
    [
        ("method=tesla",),
        ("method=ddpp", "method.prune=gate"),
        ("method=datm", "method.first_max_start_epoch=1", "method.growth_steps=3"),
    ],
    ids=lambda words: words[0],
)
def test_every_method_runs_from_the_shell(results_of: Any, ddist: Any, words: Any) -> None:
    results = results_of(*words, *QUICK)
    assert 0 <= results["evaluation"][0]["accuracy_mean"] <= 1
    set_ = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert set_.step_sizes is not None and set_.step_sizes.shape == (1, 1)
    assert set_.labels.is_floating_point() == (words[0] == "method=datm")
