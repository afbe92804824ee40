"""Two processes of one run: each draws its own networks and real batches, and their gradients are
averaged."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ddist import DistilledDataset
from ddist.methods import DC, DD
from ddist.seeding import generator
from ddist.tasks.build import build_data, build_init, build_method
from ddist.tasks.config import conf_dir, register_resolvers

pytestmark = pytest.mark.slow

# One step of plain gradient descent with rate 1: the images move by their gradient.
COMMON = ["steps=1", "method.lr.images=1", "seed=3", "threads=1", "evaluation.num_networks=2"]
ONE_STEP = [
    *COMMON, "method.optimizer._target_=torch.optim.SGD", "~method.optimizer.betas",
    "method.scheduler=null", "method.batch_real=64", "evaluation.epoch_grid=[1]",
    "trainer.gradient_clip_val=null", "method.weight_decay.images=0",
]  # fmt: skip
DC_STEP = [
    *COMMON, "method=dc", "recipe=dc/_paper", "method.optimizer.momentum=0",
    "method.real_per_class=8", "network.width=8", "network.depth=2", "evaluation.epochs=1",
    "compile=false",
]  # fmt: skip
TWO = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]


def composed(words: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", words)


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """``ddist`` with these words in two processes, the leaders of a group of their own, of which
    Lightning starts the second one."""
    command = [Path(sys.executable).with_name("ddist"), *words, *TWO, "hydra.run.dir=run"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, **pipes)


def two_ranks(
    ddist: Any, words: list[str], run: str = "run", steps: int = 1, before: str = ""
) -> torch.Tensor:
    """The images after ``ddist`` with these words has run in two processes, which are told what
    torchrun tells its own, and run ``before`` first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests"}
    told |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "2") | {"GROUP_RANK": "0"}
    ends = [
        ddist.start(
            *words, *TWO, f"hydra.run.dir={run}", before=before, RANK=rank, LOCAL_RANK=rank, **told
        )
        for rank in "01"
    ]
    first, second = (end() for end in ends)
    assert (first.code, second.code) == (0, 0), first.out + first.err + second.out + second.err
    # one process speaks and writes for both, and Lightning not at all
    printed = first.out + first.err + second.out + second.err
    assert "GPU available" not in printed
    assert printed.count("Evaluating under the protocol") == 1
    folder: Path = ddist.folder / run
    assert (folder / "ddist.log").read_text().count("The images: ") == 1
    assert json.loads((folder / "results.json").read_text())["steps"] == steps
    return DistilledDataset.load(folder / "distilled").images


def images_and_gradients(ranks: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The images before the step, and each rank's gradient, computed here without a Trainer."""
    cfg = composed(ONE_STEP)
    data = build_data(cfg).feeding(cfg.method.batch_real, None)
    init = build_init(cfg, data)
    method = build_method(cfg, data, init)
    assert isinstance(method, DD)
    gradients = []
    for rank in range(ranks):
        x, y = data.batch(64, generator(3, "real", rank, 0))
        weights = method.train_student(init.draw(method.network, 1, rank, 0))
        logits = torch.func.functional_call(
            method.network, {k: w[0] for k, w in weights.items()}, x
        )
        loss = torch.nn.functional.cross_entropy(logits, y)
        gradients.append(torch.autograd.grad(loss, method.synthetic.images)[0])
    return method.synthetic.images.detach(), gradients


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_the_image_gradient_is_the_mean_over_the_ranks(ddist: Any) -> None:
    images = two_ranks(ddist, ONE_STEP)
    start, (first, second) = images_and_gradients(2)
    assert (first - second).norm() > 0.1 * first.norm()
    moved = start - images
    torch.testing.assert_close(moved, (first + second) / 2, rtol=1e-4, atol=1e-6)
    assert [path.name for path in ddist.folder.glob("[!.]*")] == ["run"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_ranks_move_the_images_as_one_with_both_students(ddist: Any) -> None:
    """Matching: the mean over the ranks is the mean over twice the networks, each with its own
    real images."""
    images = two_ranks(ddist, DC_STEP)
    cfg = composed(DC_STEP)
    data = build_data(cfg).feeding(None, cfg.method.real_per_class)
    init = build_init(cfg, data)
    method = build_method(cfg, data, init)
    assert isinstance(method, DC)
    total = torch.zeros(())
    for rank in range(2):
        indices = data.class_indices(8, generator(3, "real", rank, 0))
        weights = {n: w[0] for n, w in init.draw(method.network, 1, rank, 0).items()}
        ((classes, x_syn),) = method.by_class(method.synthetic()[0])
        total = total + method.match(weights, data.images(indices), x_syn, classes) / 2
    start = method.synthetic.images
    moved = start.detach() - images
    expected = torch.autograd.grad(total, start)[0]
    assert expected.norm() > 1e-3
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-6)


UNEVEN = """
import os
from pathlib import Path
from ddist.callbacks import Budget
from ddist.methods import Annealed
rank = os.environ["RANK"]
Budget.share = property(lambda self: (0.5, 0.8)[int(rank)])
reach = Annealed.reach
def written(self, progress):
    reach(self, progress)
    with Path(f"rates{rank}.txt").open("a") as file:
        print(progress, *self.get_last_lr(), file=file)
Annealed.reach = written
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_both_ranks_anneal_by_the_clock_of_the_first(ddist: Any) -> None:
    words = [*COMMON, "method=dm", "network.width=8", "network.depth=2", "evaluation.epochs=1",
             "method.real_per_class=8", "compile=false", "budget=1h", "steps=3"]  # fmt: skip
    two_ranks(ddist, words, steps=3, before=UNEVEN)
    first, second = (ddist.folder.joinpath(f"rates{rank}.txt").read_text() for rank in "01")
    assert first == second
    rows = [[float(word) for word in line.split()] for line in first.splitlines()]
    assert rows == [pytest.approx(row) for row in ([0.5, 0.5], [2 / 3, 0.25], [1.0, 0.0])]


def second_rank(first: int) -> int:
    """The process that Lightning has started beside ``first``."""
    parents = {
        int(path.parent.name): int(path.read_text().rpartition(")")[2].split()[1])
        for path in Path("/proc").glob("[0-9]*/stat")
    }
    (child,) = (process for process, parent in parents.items() if parent == first)
    return child


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_rank_that_dies_ends_the_run_which_resumes_with_the_same_bits(
    ddist: Any, tmp_path: Path
) -> None:
    """Each rank's student, which lives for 20 steps, comes back from the checkpoint. Lightning
    starts the run that is killed, as torchrun would the ones that it is compared with and that goes
    on."""
    words = [*DC_STEP, "steps=20", "method.updates=20", "method.student_epochs=1",
             "task.baseline=false", "callbacks.checkpoint.seconds=0"]  # fmt: skip
    whole = two_ranks(ddist, words, "whole", steps=20)
    killed, checkpoint = start(words, tmp_path), tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    os.kill(second_rank(killed.pid), signal.SIGKILL)
    printed, _ = killed.communicate(timeout=60)
    assert killed.returncode == 1
    assert "ddist: Another process of this run has ended or does not answer" in printed
    assert "Traceback" not in printed
    assert torch.equal(whole, two_ranks(ddist, words, steps=20))
    assert "Going on from" in (tmp_path / "run" / "ddist.log").read_text()
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["run", "whole"]
