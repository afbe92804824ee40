"""KIP: its loss against the papers' formula written out, its labels, what it leaves."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.kernels import Convolutional, FullyConnected, Kernel
from ddist.methods import KIP
from ddist.seeding import generator
from tests.pixel import pixel

RIDGE = 1e-4
PIXEL = pixel(start="real")
SETTINGS: dict[str, Any] = {
    "activation": "relu", "weight_std": 2**0.5, "bias_std": 0.1, "kind": "ntk", "memory": 100.0,
}  # fmt: skip
CONNECTED = FullyConnected(depth=1, **SETTINGS)
CONVOLUTIONAL = Convolutional(depth=1, pooling="none", **SETTINGS)
Make = Callable[..., KIP]


@pytest.fixture
def make(common: dict[str, Any]) -> Make:
    def build(**changes: Any) -> KIP:
        labels = changes.pop("labels", "hard")
        options: dict[str, Any] = {
            "ipc": 2, "kernel": CONNECTED, "ridge": RIDGE, "lr": {"images": 0.04, "labels": 0.04},
            "synthetic": partial(PIXEL, labels=labels),
        }  # fmt: skip
        return KIP(**(common | options | changes)).double()

    return build


def real_indices(method: KIP, per_class: int = 5) -> Tensor:
    return method.data.class_indices(per_class, generator(0, "real", 0))


def parts(method: KIP, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """K_ss + ridge, K_ts, and the centred labels of the targets, one after the other."""
    images, _ = method.synthetic()
    real = torch.cat([method.data.images(row) for row in indices])
    y_t = torch.stack([one_hot(torch.tensor(c), 10).double() - 0.1
                       for c, row in enumerate(indices) for _ in row])  # fmt: skip
    k_ss = method.kernel.block(images, images)
    ridge = method.ridge * k_ss.trace() / len(k_ss) * torch.eye(len(k_ss)).double()
    return k_ss + ridge, method.kernel.block(real, images), y_t


def by_hand(method: KIP, indices: Tensor) -> Tensor:
    k_ss, k_ts, y_t = parts(method, indices)
    labels = method.synthetic()[1]
    y_s = one_hot(labels, 10).double() if labels.ndim == 1 else labels
    predicted = k_ts @ torch.linalg.inv(k_ss) @ (y_s - 0.1)
    return 0.5 * (predicted - y_t).square().sum() / y_t.numel()


def gradients(method: KIP, loss: Tensor) -> list[Tensor]:
    learned = [p for p in method.synthetic.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, learned, retain_graph=True))


@pytest.mark.parametrize("kernel", [CONNECTED, CONVOLUTIONAL], ids=str)
@pytest.mark.parametrize("labels", ["hard", "soft", "free"])
def test_loss_and_gradient_are_the_papers(make: Make, labels: str, kernel: Kernel) -> None:
    method = make(labels=labels, kernel=kernel)
    indices = real_indices(method)
    loss, expected = method.outer_loss(indices), by_hand(method, indices)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(gradients(method, loss), gradients(method, expected), strict=True):
        assert ours.abs().max() > 1e-5
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10)


def test_solved_labels_are_the_best_and_their_gradient_is_that_of_the_best(make: Make) -> None:
    method = make(labels="solved", ridge=1e-10)
    indices = real_indices(method, 20)
    loss = method.outer_loss(indices)
    _, k_ts, y_t = parts(method, indices)
    left = y_t - k_ts @ torch.linalg.lstsq(k_ts, y_t).solution
    expected = 0.5 * left.square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        gradients(method, loss)[0], gradients(method, expected)[0], rtol=1e-4, atol=1e-8
    )
    assert loss < 0.9 * make().outer_loss(indices)


@pytest.mark.parametrize("labels", ["hard", "solved"])
def test_blocks_give_the_loss_of_the_whole(
    make: Make, labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make(labels=labels, kernel=CONVOLUTIONAL)
    indices = real_indices(method)
    whole = method.outer_loss(indices)
    expected = gradients(method, whole)[0]
    monkeypatch.setattr(Convolutional, "pairs_at_once", lambda self, x: 30)
    assert method.kernel.block_shape(torch.zeros(50, 1, 8, 8), torch.zeros(20, 1, 8, 8)) == (5, 6)
    blocks = method.outer_loss(indices)
    torch.testing.assert_close(blocks, whole, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradients(method, blocks)[0], expected, rtol=1e-7, atol=1e-12)


def test_the_artifacts_labels_are_solved_on_all_training_images(
    make: Make, digits: RealData
) -> None:
    method = make(labels="solved", ridge=1e-8)
    images, _ = method.synthetic()
    x, y = digits.normalization(digits.train.x), one_hot(digits.train.y, 10).double() - 0.1
    k_ss, k_ts = CONNECTED(images, images).detach(), CONNECTED(x, images).detach()
    best = torch.linalg.lstsq(k_ts, y).solution
    labels = method.tensors()["labels"]
    assert labels.dtype == torch.float32 and labels.shape == (20, 10)
    predicted = k_ts @ torch.linalg.solve(k_ss, labels.double() - 0.1)
    torch.testing.assert_close(predicted, k_ts @ best, rtol=0, atol=1e-3)
    # pictures do without
    assert torch.equal(method.synthetic()[1], torch.eye(10).double().repeat_interleave(2, 0))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"synthetic": partial(PIXEL, labels="solved", factor=2)},
            "a label for each training image, but a stored one holds 4: set synthetic=pixel",
        ),
        (
            {"synthetic": partial(PIXEL, labels="solved"), "ema": 0.9},
            "fit the images themselves: set method.ema=null",
        ),
    ],
)
def test_mistakes_are_sentences(make: Make, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DdistError, match=sentence):
        make(**changes)


def test_equal_images_without_a_ridge_are_a_sentence(make: Make) -> None:
    method = make(ridge=0.0)
    with torch.no_grad():
        method.synthetic.images.copy_(method.synthetic.images[:1].expand(20, -1, -1, -1))
    with pytest.raises(DdistError, match="cannot be factorised with a ridge of 0"):
        method.outer_loss(real_indices(method))


def test_images_that_diverged_are_a_sentence(make: Make) -> None:
    method = make()
    with torch.no_grad():
        method.synthetic.images[0] = torch.nan
    with pytest.raises(DdistError, match=r"have diverged: try a smaller method\.lr\.images"):
        method.outer_loss(real_indices(method))


@pytest.mark.parametrize("labels", ["free", "solved"])
def test_other_methods_refuse_numbers_as_labels(make_dd: Callable[..., Any], labels: str) -> None:
    with pytest.raises(DdistError, match=f"synthetic.labels={labels} is for methods of regression"):
        make_dd(synthetic=partial(PIXEL, labels=labels))


# -- from the shell --------------------------------------------------------------------------------

NETWORK = ("evaluation=dc2021", "network=mlp", "evaluation.num_networks=1", "compile=false")
SHELL = ("method=kip", "recipe=kip/_paper", "ipc=2", "steps=8", "method.real_per_class=20")


@pytest.mark.parametrize("labels", ["hard", "free", "solved"])
def test_a_run_from_the_shell(
    ddist: Any, results_of: Callable[..., dict[str, Any]], labels: str
) -> None:
    found = results_of(*SHELL, f"synthetic.labels={labels}")
    assert (found["method"], found["network"], found["init"]) == ("kip", "none", "none")
    rows = [*found["evaluation"], found["baselines"]["random"]]
    assert [(row["protocol"], row["network"]) for row in rows] == [("krr", "fc1 relu ntk")] * 2
    assert rows[0]["accuracy_mean"] > max(0.8, rows[1]["accuracy_mean"])
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.labels.is_floating_point() == (labels != "hard")
    # the same images under another kernel, and a network trained on them
    evaluate = ("task=evaluate", "artifact=run/distilled", "task.baseline=false")
    for options, row in (
        (("kernel.depth=2",), ("krr", "fc2 relu ntk")),
        ((*NETWORK, "evaluation.epochs=2"), ("dc2021", "mlp")),
    ):
        done = ddist(*evaluate, *options, f"hydra.run.dir={row[0]}")
        assert (done.code, done.err) == (0, "") and f" {row[1]} " in done.out


def test_label_solve_alone_takes_no_outer_step(results_of: Callable[..., dict[str, Any]]) -> None:
    found = results_of(*SHELL, "synthetic.labels=solved", "synthetic.images=frozen")
    assert found["steps"] == 0
    # the same real images, with solved labels and without
    assert found["evaluation"][0]["accuracy_mean"] > found["baselines"]["random"]["accuracy_mean"]


def test_a_convolutional_kernel_from_the_shell(results_of: Callable[..., dict[str, Any]]) -> None:
    found = results_of(
        *SHELL, "kernel=convolutional", "kernel.depth=1", "dataset.subset=30", "kernel.memory=8",
        "steps=2",
    )  # fmt: skip
    assert found["evaluation"][0]["network"] == "conv1 relu ntk"


@pytest.mark.parametrize("labels", ["free", "solved"])
def test_a_run_that_is_killed_goes_on(same_after_a_kill: Callable[..., bool], labels: str) -> None:
    assert same_after_a_kill(5, *SHELL, f"synthetic.labels={labels}", "task.baseline=false")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("network=lenet", "No network takes part in this run (evaluation=krr does without)"),
        ("evaluation.networks=[mlp]", "No network takes part in this run"),
        ("kernel=connected", "Unknown kernel 'connected'"),
        ("augment=dsa", "This method does not augment its images"),
        ("synthetic.images=frozen", "Nothing is left to learn: set synthetic.images=learned."),
    ],
)
def test_mistakes_at_the_shell_are_sentences(ddist: Any, arguments: str, sentence: str) -> None:
    done = ddist(*SHELL, *arguments.split())
    assert done.code == 1 and done.err.count("\n") == 1 and "Traceback" not in done.out
    assert sentence in done.err


def test_a_kernel_is_for_those_who_have_one(ddist: Any) -> None:
    done = ddist("method=dd", "kernel.depth=2", "steps=1")
    assert done.code == 1 and "No kernel takes part in this run" in done.err


def test_the_card_names_no_network(ddist: Any, results_of: Callable[..., dict[str, Any]]) -> None:
    results_of(*SHELL, "steps=1")
    card = Path(ddist.folder / "run" / "distilled" / "README.md").read_text()
    assert "mlp" not in card and "| distilled images | fc1 relu ntk | krr |" in card


def test_a_network_is_not_even_built(results_of: Callable[..., dict[str, Any]]) -> None:
    assert results_of(*SHELL, "dataset.size=3", "init=fixed")["network"] == "none"
