"""Kernel regression as a protocol: scikit-learn's own numbers."""

from collections.abc import Callable

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from ddist.artifact.dataset import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, KernelRegression, Row
from ddist.init import Random
from ddist.kernels import FullyConnected
from ddist.networks import MLP

Make = Callable[..., DistilledDataset]
KERNEL = FullyConnected(
    depth=1, activation="relu", weight_std=1.4, bias_std=0.1, kind="ntk", memory=100.0
)


def run(data: RealData, distilled: DistilledDataset, network: MLP, ridge: float) -> Row:
    protocol = KernelRegression(name="krr", kernel=KERNEL, ridge=ridge)
    (row,) = Evaluator(protocol, {"mlp": network}, Random("default", 0), seed=0).run(
        distilled, data
    )
    return row


@pytest.mark.parametrize("ridge", [1e-6, 1.0])
@pytest.mark.parametrize("labels", ["hard", "soft", "free"])
def test_accuracy_is_scikit_learns(
    digits: RealData, make_distilled: Make, network: MLP, ridge: float, labels: str
) -> None:
    distilled = make_distilled()
    y = torch.eye(10)[distilled.labels]
    noise = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    if labels != "hard":
        y = (5 * y + noise).softmax(1) if labels == "soft" else y + noise
        distilled = make_distilled(labels=y)
    k_ss = KERNEL(distilled.images, distilled.images)
    model = KernelRidge(alpha=ridge * float(k_ss.diagonal().mean()), kernel="precomputed")
    model.fit(k_ss.numpy(), (y.double() - 0.1).numpy())
    x = digits.normalization(digits.test.x)
    predicted = model.predict(KERNEL(x, distilled.images).numpy()).argmax(1)
    expected = float((predicted == digits.test.y.numpy()).mean())
    row = run(digits, distilled, network, ridge)
    assert row.accuracy_mean == pytest.approx(expected, abs=1e-12)
    assert (row.protocol, row.network, row.num_networks) == ("krr", "fc1 relu ntk", 1)
    assert row.accuracy_std is None and row.chosen == {}


def test_tiles_are_cut_out(digits: RealData, make_distilled: Make, network: MLP) -> None:
    """Four training images in each stored one are those that ``examples`` gives."""
    stored = make_distilled()
    tiled = make_distilled(meta={**stored.meta, "factor": 2})
    images, labels, _ = tiled.examples()
    plain = make_distilled(images=images, labels=labels, step_index=None)
    assert run(digits, tiled, network, 1e-3) == run(digits, plain, network, 1e-3)


def test_what_it_cannot_do(digits: RealData, make_distilled: Make, network: MLP) -> None:
    with pytest.raises(DdistError, match="Kernel regression knows no weights of samples"):
        run(digits, make_distilled(weights=torch.ones(40)), network, 1e-6)
