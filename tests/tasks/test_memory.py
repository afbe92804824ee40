"""What is said of the memory before a run begins."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ddist.errors import DdistError
from ddist.evaluation import LinearProbe
from ddist.networks import ConvNet
from ddist.tasks import memory

SHAPE = (3, 64, 64)


def parts(distilling: int) -> tuple[Any, Any, Any]:
    """A method that needs so many bytes, of 40 images in 4 steps; its evaluation; its data."""
    network = ConvNet(
        5, SHAPE, depth=3, width=16, norm="instance", pooling="avg", activation="relu"
    )
    synthetic = SimpleNamespace(classes=torch.arange(40) % 5, examples_each=1)
    index = torch.arange(4).repeat_interleave(10)
    method = SimpleNamespace(
        learns=True, num_bytes=lambda: distilling, synthetic=synthetic, step_index=index
    )
    evaluator = SimpleNamespace(
        protocol=SimpleNamespace(uses_network=True, chunk=3), networks={"convnet": network}
    )
    return method, evaluator, SimpleNamespace(image_shape=SHAPE, device=torch.device("cpu"))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="an accelerator says it by itself")
def test_what_is_needed_is_said_or_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ddist")
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    memory.check_memory(*parts(10**6))
    assert not caplog.text
    memory.check_memory(*parts(5 * 10**8))
    assert "This run needs about 500.0 MB of memory (500.0 MB to distil" in caplog.text
    with pytest.raises(DdistError, match=r"needs about 2.0 GB .* smaller dataset\.size .*64x64"):
        memory.check_memory(*parts(2 * 10**9))


def test_evaluation_trains_networks_together_on_the_largest_step() -> None:
    method, evaluator, data = parts(0)
    network = evaluator.networks["convnet"]
    one = memory.footprint(network, SHAPE).gradient(10)
    assert memory.evaluation_bytes(method, evaluator, data) == 3 * one
    evaluator.protocol.uses_network = False
    assert memory.evaluation_bytes(method, evaluator, data) == 0


def test_probes_pass_their_images_in_parts() -> None:
    method, evaluator, data = parts(0)
    evaluator.protocol = LinearProbe.__new__(LinearProbe)
    assert memory.evaluation_bytes(method, evaluator, data) == 0
