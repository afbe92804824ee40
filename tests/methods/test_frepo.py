"""FRePo: the paper's algorithm written out with modules and dense matrices, its pool, its labels,
what it leaves."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import Random
from ddist.methods import FRePo
from ddist.methods.frepo import label_margin
from ddist.networks import ConvNet
from ddist.seeding import generator
from tests.pixel import pixel

PIXEL = pixel(start="real", labels="free")
OPTIONS: dict[str, Any] = {
    "ipc": 2, "num_pool": 3, "max_updates": 4, "student_lr": 0.01, "student_batch_size": 100,
    "norm_momentum": 0.8, "ridge": 1e-4, "mirror": False, "lr": {"images": 0.1, "labels": 0.1},
    "init": Random("default", 0), "synthetic": PIXEL,
}  # fmt: skip
RATE = 0.5  # of plain gradient descent
Make = Callable[..., FRePo]


def convnet(data: RealData) -> ConvNet:
    """Its convolutions have no biases: before batch normalisation the gradient of these is nothing
    but rounding, which Adam would blow up."""
    made = ConvNet(data.num_classes, data.image_shape, 2, [4, 6], "batch", "avg", "relu").double()
    for block in made.body:
        block[0].bias = None
    return made


@pytest.fixture
def make(common: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Make:
    """A method in double precision outside of a Trainer: step ``method.at``, rank 0."""

    def draw_networks(self: FRePo, num: int) -> dict[str, Tensor]:
        return self.init.draw(self.network, num, 0, self.at)

    monkeypatch.setattr(FRePo, "global_step", property(lambda self: self.at))
    monkeypatch.setattr(FRePo, "global_rank", 0)
    monkeypatch.setattr(FRePo, "draw_networks", draw_networks)
    monkeypatch.setattr(FRePo, "log", lambda *args, **options: None)

    def build(**changes: Any) -> FRePo:
        options = common | OPTIONS | changes
        options.setdefault("network", None)
        if "network" not in changes:
            options["network"] = convnet(options["data"])
        method = FRePo(**options).double()
        method.at = 0  # type: ignore[assignment]
        return method

    return build


def real_batch(method: FRePo, step: int, size: int = 30) -> tuple[Tensor, Tensor]:
    x, y = method.data.batch(size, generator(0, "real", 0, step))
    return x.double(), y


def learn(method: FRePo, steps: range, x_syn: list[Tensor], losses: list[Tensor]) -> None:
    """Outer steps by plain gradient descent; the images and labels after each, and the losses."""
    learned = [p for p in method.synthetic.parameters() if p.requires_grad]
    for method.at in steps:
        loss = method.outer_loss(real_batch(method, method.at))
        gradients = torch.autograd.grad(loss, learned)
        with torch.no_grad():
            for parameter, gradient in zip(learned, gradients, strict=True):
                parameter -= RATE * gradient
        losses.append(loss.detach())
        x_syn.append(torch.cat([p.detach().flatten() for p in learned]))


def written_out(method: FRePo, steps: int) -> tuple[list[Tensor], list[Tensor]]:
    """The algorithm on modules of their own, with torch's Adam and an explicit inverse; the images
    and labels after each step, and the losses."""
    data, num = method.data, method.num_pool

    def module(weights: dict[str, Tensor], k: int) -> list[Any]:
        made = convnet(data)
        made.load_state_dict({n: w[k] for n, w in weights.items()}, strict=False)
        for block in made.body:
            block[1].momentum = method.norm_momentum
        return [made, torch.optim.Adam(made.parameters(), method.student_lr)]

    first = method.init.draw(method.network, num, 0, 0)
    pool = [module(first, k) for k in range(num)]
    ages = [method.max_updates * k // num for k in range(num)]
    x = method.synthetic.images.detach().clone().requires_grad_()
    labels = method.synthetic.stored()[1]
    free = labels.is_floating_point()
    y = labels.detach().clone() if free else one_hot(labels, data.num_classes).double()
    y.requires_grad_(free)
    found, losses = [], []
    for step in range(steps):
        stream = generator(0, "pool", 0, step)
        k = int(torch.randint(num, (), generator=stream))
        net = pool[k][0].eval()
        x_real, y_real = real_batch(method, step)
        centred = y - 1 / data.num_classes
        both = torch.cat([x, x.flip(3)]) if method.mirror else x
        twice = torch.cat([centred, centred]) if method.mirror else centred
        phi_s, phi_t = net.features(both), net.features(x_real).detach()
        k_ss, k_ts = phi_s @ phi_s.T, phi_t @ phi_s.T
        ridge = method.ridge * k_ss.trace() / len(k_ss) * torch.eye(len(k_ss)).double()
        predicted = k_ts @ torch.linalg.inv(k_ss + ridge) @ twice
        y_t = one_hot(y_real, data.num_classes).double() - 1 / data.num_classes
        loss = 0.5 * (predicted - y_t).square().sum() / len(y_t)
        for row in y if free else ():
            second, largest = row.sort().values[-2:]
            loss = loss - (largest - second).clamp(max=1 / data.num_classes) / len(y)
        learned = [x, y] if free else [x]
        for leaf, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
            leaf.data -= RATE * gradient
        losses.append(loss.detach())
        found.append(torch.cat([leaf.detach().flatten() for leaf in learned]))

        if ages[k] >= method.max_updates:
            pool[k] = module(method.init.draw(method.network, 1, 0, step + 1), 0)
            ages[k] = 0
            continue
        ages[k] += 1
        student, adam = pool[k]
        student.train()
        adam.zero_grad()
        errors = student(x.detach()) - (y.detach() - 1 / data.num_classes)
        (errors.square().sum(1) / 2).mean().backward()
        adam.step()
    return found, losses


@pytest.mark.parametrize(("labels", "mirror"), [("free", False), ("free", True), ("hard", False)])
def test_it_is_the_papers_algorithm(
    make: Make, real_data: Callable[..., RealData], labels: str, mirror: bool
) -> None:
    data = real_data("digits", mirror=True).load()
    method = make(data=data, mirror=mirror, synthetic=partial(PIXEL, labels=labels))
    expected, their_losses = written_out(method, 12)
    found: list[Tensor] = []
    losses: list[Tensor] = []
    learn(method, range(12), found, losses)
    torch.testing.assert_close(losses[0], their_losses[0], rtol=1e-9, atol=0)
    # Adam divides small gradients by themselves, and what rounding has left of them.
    torch.testing.assert_close(torch.stack(losses), torch.stack(their_losses), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-6, atol=1e-7)
    assert (found[-1] - found[0]).abs().max() > 0.01
    assert sum(losses[-3:]) < sum(losses[:3])


def test_nothing_is_learned_through_the_networks(make: Make) -> None:
    method = make()
    weights = method.network_of_step()
    assert not any(w.requires_grad for w in weights.values())
    x, y = real_batch(method, 0)
    x.requires_grad_()
    loss = method.outer_loss((x, y))
    assert torch.autograd.grad(loss, x, allow_unused=True) == (None,)


def test_features_depend_on_no_other_image(make: Make) -> None:
    """Not even under batch normalisation, once the networks have been trained."""
    method = make()
    learn(method, range(6), [], [])
    method.at = 6
    weights = method.network_of_step()
    statistics = [w for name, w in weights.items() if name.endswith("running_var")]
    assert len(statistics) == 2 and all((w - 1).abs().max() > 0.01 for w in statistics)
    x, y = real_batch(method, 6, size=100)
    halves = [method.outer_loss((x[part], y[part])) for part in (slice(50), slice(50, None))]
    whole = method.outer_loss((x, y))
    margin = label_margin(method.prototypes()[1])
    torch.testing.assert_close(whole, torch.stack(halves).mean())
    assert whole > margin


# -- the pool --------------------------------------------------------------------------------------


def test_ages_are_spread_and_networks_replaced(make: Make) -> None:
    method = make(num_pool=4, max_updates=6)
    before = method.start_pool()[1].ages
    assert before.tolist() == [0, 1, 3, 4]
    expected, replaced = before.tolist(), 0
    for method.at in range(40):
        weights = {name: w.clone() for name, w in method.network_of_step().items()}
        again = method.network_of_step()
        assert all(torch.equal(w, weights[n]) for n, w in again.items())  # once a step
        assert method._pool is not None and method._pool[1].ages.tolist() == expected
        k = method.drawn(method.at)
        replaced += expected[k] == 6
        expected[k] = (expected[k] + 1) % 7
    assert replaced >= 3
    assert len({method.drawn(step) for step in range(40)}) == 4


def test_a_replacement_is_a_fresh_network(make: Make) -> None:
    method = make(num_pool=1, max_updates=1)
    for method.at in range(2):  # trained once, then used for the last time
        method.network_of_step()
    method.at = 2
    drawn = method.init.draw(method.network, 1, 0, 2)
    found = method.network_of_step()
    assert all(torch.equal(found[name], w[0]) for name, w in drawn.items())


def test_a_large_set_is_trained_on_in_parts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    method = make(student_batch_size=7, num_pool=1)
    seen: list[Tensor] = []
    monkeypatch.setattr(
        "ddist.inner.pool.Pool.train", lambda self, k, x, y, precision: seen.append(x)
    )
    for method.at in range(3):
        method.network_of_step()
    images, _ = method.prototypes()
    rows = [[next(i for i, y in enumerate(images) if torch.equal(x, y)) for x in s] for s in seen]
    assert [len(set(each)) for each in rows] == [7, 7] and rows[0] != rows[1]


def test_each_rank_has_its_own_pool_in_the_checkpoint(make: Make) -> None:
    class Trainer:
        world_size, global_rank = 1, 0

    first, second = make(), make()
    for method in (first, second):
        method._trainer = Trainer()  # type: ignore[assignment]
    learn(first, range(3), [], [])
    checkpoint: dict[str, Any] = {}
    first.on_save_checkpoint(checkpoint)
    checkpoint = deepcopy(checkpoint)  # as a file would be
    assert checkpoint["pool"]["state"]["ages"].shape == (1, 3)
    second.on_load_checkpoint(checkpoint)
    second.synthetic.load_state_dict(first.synthetic.state_dict())
    losses: list[list[Tensor]] = [[], []]
    for method, each in zip((first, second), losses, strict=True):
        learn(method, range(3, 6), [], each)
    assert losses[0] == losses[1]
    Trainer.global_rank = 1
    with pytest.raises(DdistError, match="a run with fewer devices: resume with as many"):
        second.on_load_checkpoint(checkpoint)


def test_a_checkpoint_without_a_pool_is_a_sentence(make: Make) -> None:
    method = make()
    method.at = 5
    with pytest.raises(DdistError, match="lacks the pool's networks: set resume=false"):
        method.network_of_step()


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [4, 40])
def test_labels_start_at_the_scaled_classes(
    make: Make, real_data: Callable[..., RealData], tmp_path: Path, num_classes: int
) -> None:
    y = np.arange(num_classes).repeat(3)
    x = np.random.default_rng(0).integers(256, size=(len(y), 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = real_data("arrays", source={"file": str(tmp_path / "data.npz")}).load()
    method = make(data=data)
    expected = torch.eye(num_classes).repeat_interleave(2, 0).double() - 1 / num_classes
    _, labels = method.prototypes()
    torch.testing.assert_close(labels, expected / (num_classes / 10) ** 0.5, rtol=1e-6, atol=1e-6)


def test_the_margin_is_the_authors() -> None:
    y = torch.tensor(
        [[0.9, 0.1, -0.2, 0.0], [0.3, 0.2, 0.1, 0.0], [-0.5, -0.4, -0.3, -0.1]],
        dtype=torch.float64,
        requires_grad=True,
    )
    margin = label_margin(y)
    # 0.8 is cut at 1/4; 0.1 and 0.2 are not
    torch.testing.assert_close(margin, torch.tensor(-(0.25 + 0.1 + 0.2) / 3).double())
    margin.backward()
    expected = torch.tensor([[0, 0, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1]]).double() / 3
    assert y.grad is not None
    torch.testing.assert_close(y.grad, expected)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mirror": True}, "A mirrored image of digits is of another class"),
        (
            {"synthetic": partial(PIXEL, labels="solved")},
            "synthetic.labels=solved is for method=kip alone",
        ),
    ],
)
def test_mistakes_are_sentences(make: Make, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DdistError, match=sentence):
        make(**changes)


# -- from the shell --------------------------------------------------------------------------------

SHELL = (
    "method=frepo", "recipe=frepo/_paper", "network.depth=2", "network.width=[8,16]", "ipc=2",
    "method.num_pool=3", "method.max_updates=2", "method.batch_real=64",
    "evaluation.num_networks=1", "compile=false",
)  # fmt: skip


def test_a_run_from_the_shell(ddist: Any, results_of: Callable[..., dict[str, Any]]) -> None:
    found = results_of(*SHELL, "steps=4", "evaluation.epochs=3")
    assert (found["method"], found["network"]) == ("frepo", "convnet_wide_bn")
    rows = [*found["evaluation"], found["baselines"]["random"]]
    names = [(row["protocol"], row["network"]) for row in rows]
    assert names == [("frepo", "convnet_wide_bn norm=none")] * 2
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.labels.is_floating_point()
    # the same images under another protocol, which takes probabilities
    done = ddist(
        "task=evaluate", "artifact=run/distilled", "task.baseline=false", "evaluation=dc2021",
        "evaluation.epochs=2", "evaluation.num_networks=1", "compile=false",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "") and " dc2021" in done.out
    assert "norm=none" not in done.out


@pytest.mark.parametrize("labels", ["free", "hard"])
def test_a_run_that_is_killed_goes_on(same_after_a_kill: Callable[..., bool], labels: str) -> None:
    """Step 9, when each of the three networks has been replaced or trained."""
    assert same_after_a_kill(
        9, *SHELL, f"synthetic.labels={labels}", "steps=12", "evaluation.epochs=1",
        "method.lr.images=0.1", "method.student_batch_size=12", "method.ema=0.5",
        "task.baseline=false",
    )  # fmt: skip
