"""Methods built from values, as a REPL would, on the bundled digits."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from ddist import DistilledDataset
from ddist.augment import Siamese
from ddist.data import RealData
from ddist.evaluation import Replay
from ddist.init import Random
from ddist.methods import DD, Method
from ddist.methods.matching import Matching
from ddist.networks import MLP, ConvNet
from ddist.objectives import classification
from ddist.tasks.build import build_init, build_method, read_data
from ddist.tasks.config import conf_dir, register_resolvers
from tests.methods.every import COMMON, METHODS, NETWORK, Experts, Run
from tests.pixel import pixel

PIXEL = pixel()


@pytest.fixture
def common(digits: RealData) -> dict[str, Any]:
    """What every method is given."""
    return {
        "data": digits,
        "network": MLP(10, digits.image_shape, widths=[12], activation="relu"),
        "init": Random("xavier_normal", 0),
        "synthetic": PIXEL,
        "seed": 0,
    }


@pytest.fixture
def make_dd(common: dict[str, Any]) -> Callable[..., DD]:
    def make(**changes: Any) -> DD:
        options: dict[str, Any] = {
            "ipc": 2,
            "student_steps": 2,
            "student_epochs": 3,
            "step_size": 0.1,
            "num_networks": 1,
            "unroll": "checkpoint",
            "window": None,
            "objective": classification,
            "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.999)),
            "scheduler": None,
            "lr": {"images": 0.03, "labels": 0.03, "step_sizes": 0.03},
        }
        return DD(**(common | options | changes))

    return make


@pytest.fixture
def make_judge() -> Callable[..., Replay]:
    def make(**changes: Any) -> Replay:
        options: dict[str, Any] = {
            "name": "replay",
            "num_networks": 10,
            "step_size_grid": [0.03, 0.1, 0.3],
            "epoch_grid": [1, 5],
            "tuning_networks": 5,
            "tuning_images": 500,
            "chunk": 5,
        }
        return Replay(**(options | changes))

    return make


STRENGTHS: dict[str, Any] = {
    "flip": False, "prob_flip": 0.5, "ratio_scale": 1.2, "ratio_rotate": 15.0,
    "ratio_crop_pad": 0.125, "ratio_cutout": 0.5, "brightness": 1.0, "saturation": 2.0,
    "contrast": 0.5,
}  # fmt: skip
AUGMENTS = {
    "plain": Siamese(strategy=[], **STRENGTHS),
    "dsa": Siamese(strategy=["color", "crop", "cutout", "scale", "rotate"], **STRENGTHS),
}


@pytest.fixture
def augments() -> dict[str, Siamese]:
    """ "plain" and "dsa", without mirroring."""
    return AUGMENTS


@pytest.fixture
def make_matching(
    common: dict[str, Any], digits: RealData, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Matching]:
    """``make_matching(kind, **options)``: a method in double precision on a small ConvNet, outside
    of a Trainer: step ``method.at``, rank 0. ``augment`` is "plain" or "dsa"."""
    network = ConvNet(10, digits.image_shape, 2, 6, "instance", "avg", "relu").double()
    normalization = digits.normalization

    class Double(type(normalization)):  # type: ignore[misc]
        def __call__(self, pixels: Tensor) -> Tensor:
            return super().__call__(pixels).double()

    single = type(normalization)

    def build(kind: type[Matching], **changes: Any) -> Matching:
        options: dict[str, Any] = {
            "network": network, "ipc": 2, "classes_at_once": None, "cluster_from": None,
            "cluster_every": 10, "augment": "plain", "lr": {"images": 0.1},
        }  # fmt: skip
        options = common | options | changes
        monkeypatch.setattr(normalization, "__class__", single)  # images start in single precision
        method = kind(**(options | {"augment": AUGMENTS[options["augment"]]})).double()
        monkeypatch.setattr(normalization, "__class__", Double)
        method.at = 0  # type: ignore[assignment]
        monkeypatch.setattr(kind, "global_step", property(lambda self: self.at))
        monkeypatch.setattr(kind, "global_rank", 0)
        monkeypatch.setattr(method, "batch_number", lambda: method.at)
        monkeypatch.setattr(
            method,
            "draw_networks",
            lambda num: {
                n: w.double() for n, w in method.init.draw(network, num, 0, method.at).items()
            },
        )
        return method

    return build


@pytest.fixture
def make_every(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``make_every(name, *words)()``: the method of conf/method as tests.methods.every has it, with
    ``words`` of a command line; always the same."""
    register_resolvers()
    monkeypatch.setattr("ddist.tasks.build.build_trajectories", lambda *_: Experts())

    def of(name: str, *words: str) -> Callable[[], Method]:
        words = (*METHODS[name][0], *words)
        network = () if any(word.startswith("network=") for word in words) else NETWORK
        words = (*COMMON, *network, f"paths.cache={tmp_path}", f"method={name}", *words)
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("config", list(words))
        cfg, data = read_data(cfg)
        init = build_init(cfg, data)

        def build() -> Method:
            return build_method(cfg, data, init)

        Run(build, 0).losses()  # pools and teachers are trained once, at the first need
        return build

    return of


def gradient(method: Matching, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, method.synthetic.images)[0]
    assert found.abs().max() > 1e-3  # there is something to compare
    return found


@pytest.fixture
def assert_the_papers() -> Callable[..., None]:
    """``assert_the_papers(method, indices, by_hand)``: loss and gradient are those of by_hand."""

    def check(method: Matching, indices: Tensor, by_hand: Callable[..., Tensor]) -> None:
        loss, expected = method.outer_loss(indices), by_hand(method, indices)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
        ours, theirs = gradient(method, loss), gradient(method, expected)
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)

    return check


@pytest.fixture
def assert_same_losses() -> Callable[..., None]:
    """``assert_same_losses(one, other, indices)``: two methods, given the same images, have one
    outer loss and gradient."""

    def check(one: Matching, other: Matching, indices: Tensor, rtol: float = 1e-10) -> None:
        other.synthetic.load_state_dict(one.synthetic.state_dict())
        losses = [method.outer_loss(indices) for method in (one, other)]
        torch.testing.assert_close(*losses, rtol=rtol, atol=0)
        pairs = zip((one, other), losses, strict=True)
        torch.testing.assert_close(*[gradient(*each) for each in pairs], rtol=1e-8, atol=1e-12)

    return check


@pytest.fixture
def results_of(ddist: Any) -> Callable[..., dict[str, Any]]:
    """``results_of(*arguments)``: results.json of a run that succeeds without complaints."""

    def run(*arguments: str) -> dict[str, Any]:
        done = ddist(*arguments, "hydra.run.dir=run")
        assert (done.code, done.err) == (0, "")
        found: dict[str, Any] = json.loads((ddist.folder / "run" / "results.json").read_text())
        return found

    return run


@pytest.fixture
def same_after_a_kill(ddist: Any) -> Callable[..., bool]:
    """``same_after_a_kill(step, *arguments)``: whether a run that is killed when it computes that
    outer step, and then resumed, ends with the same images as one that is not."""

    def check(step: int, *arguments: str) -> bool:
        killed = KILLED.format(step=step)
        run = [*arguments, "callbacks.checkpoint.seconds=0"]
        assert ddist(*run, "hydra.run.dir=whole").code == 0
        assert ddist(*run, "hydra.run.dir=run", before=killed).code == -signal.SIGKILL
        done = ddist(*run, "hydra.run.dir=run")
        assert (done.code, done.err) == (0, "") and "Going on from" in done.out
        whole, resumed = (
            DistilledDataset.load(ddist.folder / name / "distilled").images
            for name in ("whole", "run")
        )
        return torch.equal(whole, resumed)

    return check


KILLED = """
import os
from ddist.methods import Method
step = Method.training_step
def killed(self, *args):
    if self.global_step == {step}:
        os.kill(os.getpid(), 9)
    return step(self, *args)
Method.training_step = killed
"""
