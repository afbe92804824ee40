"""On a GPU: where images, networks and results are, and that the numbers are the CPU's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ddist import DistilledDataset
from ddist.augment.sampling import bilinear
from ddist.data import RealData
from ddist.init import Random
from ddist.inner.predict import predict
from ddist.kernels import FullyConnected
from ddist.methods import Selection
from ddist.networks import ConvNet
from ddist.seeding import generator
from tests.pixel import pixel

pytestmark = pytest.mark.gpu

QUICK = ["steps=2", "evaluation.num_networks=1", "task.baseline=false"]


def small_network(data: RealData) -> ConvNet:
    return ConvNet(10, data.image_shape, 1, 8, "instance", "avg", "relu")


def test_images_are_normalised_alike(digits: RealData) -> None:
    x = digits.normalization(digits.train.x[:100])
    digits.to("cuda")
    assert digits.device.type == "cuda"
    torch.testing.assert_close(digits.normalization(digits.train.x[:100]).cpu(), x)


def test_a_selection_is_made_there(digits: RealData) -> None:
    synthetic = pixel()
    options: dict[str, Any] = {
        "ipc": 2, "student_steps": 1, "init": Random("default", 0), "seed": 0,
    }  # fmt: skip
    expected = Selection(
        data=digits, network=small_network(digits), start="real", synthetic=synthetic, **options
    ).tensors()["images"]
    network = small_network(digits)
    method = Selection(
        data=digits.to("cuda"), network=network, start="real", synthetic=synthetic, **options
    )
    assert method.synthetic.stored()[0].is_cuda
    assert all(parameter.is_cuda for parameter in network.parameters())
    torch.testing.assert_close(method.tensors()["images"], expected)


def test_reading_is_grid_samples_and_twice_differentiable() -> None:
    stream = generator(0, "gpu")
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=stream).cuda().requires_grad_()
    grid = (2 * torch.rand(2, 5, 4, 2, dtype=torch.float64, generator=stream) - 1).cuda()
    expected = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(bilinear(x, grid), expected)
    # Additions come in any order.
    assert torch.autograd.gradgradcheck(lambda x: bilinear(x, grid).pow(2), x, nondet_tol=1e-10)


@pytest.mark.parametrize("compiled", [False, True])
def test_predictions_are_the_cpus(digits: RealData, compiled: bool) -> None:
    network = small_network(digits)
    weights = Random("default", 0).draw(network, 2)
    x = digits.normalization(digits.test.x[:300])
    expected = predict(network, weights, x)
    there = {name: w.cuda() for name, w in weights.items()}
    found = predict(network.cuda(), there, x.cuda(), compiled=compiled)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=1e-2)  # TensorFloat-32


def test_kernels_are_the_cpus() -> None:
    kernel = FullyConnected(activation="relu", weight_std=1.4, bias_std=0.1, kind="ntk", memory=64)
    x = torch.randn(6, 3, 4, 4, generator=generator(0, "kernel"))
    torch.testing.assert_close(kernel(x.cuda(), x.cuda()).cpu(), kernel(x, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ["method=dd", "evaluation.epoch_grid=[1]"],
        ["method=dm", "evaluation.epochs=2", "network.width=8", "network.depth=2"],
        ["method=herding", "evaluation.epochs=2", "method.embedding.epochs=1", "network=mlp"],
        ["method=ddoq", "generative=pca", "evaluation.epochs=2", "network=mlp"],
    ],
    ids=["dd", "dm", "herding", "ddoq"],
)
def test_a_run_leaves_an_artifact_for_every_machine(
    ddist: Callable[..., Any], words: list[str]
) -> None:
    done = ddist(*words, *QUICK, "hydra.run.dir=run", DDIST_CACHE="cache")
    assert done.code == 0, done.out + done.err
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.images.device.type == "cpu" and distilled.images.isfinite().all()
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    assert 0 <= results["evaluation"][0]["accuracy_mean"] <= 1
