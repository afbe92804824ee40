"""Two processes of one run: each draws its own networks and real batches, and their gradients are
averaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from ddist import DistilledDataset
from ddist.config import conf_dir, register_resolvers
from ddist.methods import DD
from ddist.seeding import generator
from ddist.tasks.build import build_data, build_init, build_method

# One step of plain gradient descent with rate 1: the images move by their gradient.
ONE_STEP = [
    "steps=1", "method.optimizer._target_=torch.optim.SGD", "~method.optimizer.betas",
    "method.scheduler=null", "method.lr.images=1", "method.batch_real=64", "seed=3", "threads=1",
    "evaluation.num_networks=2", "evaluation.epoch_grid=[1]",
]  # fmt: skip
TWO = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]


def images_and_gradients(ranks: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The images before the step, and each rank's gradient, computed here without a Trainer."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", ONE_STEP)
    data = build_data(cfg, cfg.method.batch_real)
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
def test_the_image_gradient_is_the_mean_over_the_ranks(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("ddist"), *ONE_STEP, *TWO, "hydra.run.dir=run"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # one process speaks and writes for both
    assert done.stdout.count("Evaluating under the protocol") == 1
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 1

    start, (first, second) = images_and_gradients(2)
    assert (first - second).norm() > 0.1 * first.norm()
    moved = start - DistilledDataset.load(tmp_path / "run" / "distilled").images
    torch.testing.assert_close(moved, (first + second) / 2, rtol=1e-4, atol=1e-6)
