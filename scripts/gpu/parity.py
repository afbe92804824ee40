"""One outer step of each family: the GPU in float32 beside the CPU, and in bfloat16."""

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import torch
from plan import FAMILIES, LIMIT, OF_ROUNDING, Setting
from steps import Watch, config, train
from torch import Tensor, nn

import ddist.init.pretraining
from ddist.init import Fixed, Pretrained, Random
from ddist.init.random import device_of
from ddist.methods import NCFM
from ddist.networks import Weights


def compare(name: str, setting: Setting) -> dict[str, Any]:
    """Relative distances of the gradient of one outer step, and of its loss, to the CPU's in
    float32: of the device in float32 and in bfloat16, and of the CPU itself with other kernels."""
    widths = () if any(word.startswith("network") for word in FAMILIES[name]) else small(name)
    cfg = config(setting, f"method={name}", *FAMILIES[name], *widths, "steps=10", "compile=false")
    start = time.perf_counter()
    reference = one_step(cfg, setting, "cpu", "32-true")
    found: dict[str, Any] = {"cpu_seconds": time.perf_counter() - start}
    # What rounding alone does: the same step on the CPU without oneDNN, in another order.
    with without_onednn():
        rounded = one_step(cfg, setting, "cpu", "32-true")
    found["rounding"] = distance(rounded.gradients, reference.gradients)
    # A dry run has one device, and there this is the comparison.
    on_cpu = setting.device == "cpu"
    single = rounded if on_cpu else one_step(cfg, setting, setting.device, "32-true")
    found["gradient"] = distance(single.gradients, reference.gradients)
    found["loss"] = distance([single.loss], [reference.loss])
    found["passed"] = found["gradient"] <= max(LIMIT, OF_ROUNDING * found["rounding"])
    try:
        half = one_step(cfg, setting, setting.device, "bf16-mixed")
        found["gradient_bf16"] = distance(half.gradients, reference.gradients)
    except Exception as error:  # a method may refuse it, which is a finding and no failure
        found["bf16"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def small(name: str) -> tuple[str, ...]:
    return () if name == "kip" else ("network.width=16",)


def one_step(cfg: Any, setting: Setting, device: str, precision: str) -> Watch:
    """The loss and gradients of the first outer step on ``device``."""
    watch = Watch(setting)
    with exact(), drawn_on_cpu():
        train(cfg, watch, device=device, max_steps=1, precision=precision)
    assert any(gradient.any() for gradient in watch.gradients), "no gradient"
    return watch


def distance(found: list[Tensor | None], expected: list[Tensor | None]) -> float:
    """|found - expected| / |expected|, over all tensors together."""
    pairs = [
        (a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None
    ]
    difference = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    return difference / max(1e-30, sum(float(b.square().sum()) for _, b in pairs) ** 0.5)


@contextmanager
def without_onednn() -> Iterator[None]:
    """Torch's own kernels on the CPU."""
    with warnings.catch_warnings():
        # of its settings for Intel's GPUs, which are set along
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@contextmanager
def exact() -> Iterator[None]:
    """Float32 as it is written, without TensorFloat-32."""
    matrix, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrix.allow_tf32, convolution.allow_tf32
    matrix.allow_tf32 = convolution.allow_tf32 = False
    try:
        yield
    finally:
        matrix.allow_tf32, convolution.allow_tf32 = before


@contextmanager
def drawn_on_cpu() -> Iterator[None]:
    """What a run draws or trains on its device comes from the CPU: other devices draw other
    numbers. What is trained and kept has one name."""
    with ExitStack() as stack:
        for kind in (Random, Fixed, Pretrained):
            for name in ("draw", "start", "held_out"):
                if name in vars(kind):
                    stack.enter_context(patch.object(kind, name, on_cpu(vars(kind)[name])))
        one_name = patch.object(ddist.init.pretraining, "device_of", lambda _: torch.device("cpu"))
        stack.enter_context(one_name)
        frequencies = NCFM.frequencies

        def drawn(method: NCFM, features: Tensor) -> Tensor:
            return frequencies(method, features.cpu()).to(features.device)

        stack.enter_context(patch.object(NCFM, "frequencies", drawn))
        yield


def on_cpu(draw: Any) -> Any:
    """``draw``, a method of initial weights, for a copy of the network on the CPU; its weights are
    moved to the network."""

    def moved(init: Any, network: nn.Module, *arguments: Any) -> Weights:
        device = device_of(network)
        if device.type == "cpu":
            return draw(init, network, *arguments)
        found = draw(init, deepcopy(network).cpu(), *arguments)
        return {name: weight.to(device) for name, weight in found.items()}

    return moved
