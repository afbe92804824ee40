"""torch.compile where it earns back the time it takes, and plain calls where it cannot work."""

import inspect
import logging
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

log = logging.getLogger(__name__)

Compile = bool | Literal["auto"]

COMPILE_SECONDS = 30.0
"""What compiling a forward pass takes, about (measured: 21 to 44 s for ConvNet-3, on 2 cores)."""

SAVED_PER_VALUE = 0.13e-9
"""Seconds of one CPU thread saved for each value that a layer without weights puts out: what is
fused are normalisation, activation and pooling, not the products (measured: 0.5 s of 11.7 s for
10,000 images of ConvNet-3, which has 387,000 such values per image)."""

SAVED_PER_TRAINED_VALUE = 1.5e-9
"""The same where the pass is trained through (measured: 0.85 s of processor time of 5.1 s for 1,000
images of ConvNet-3, 296,000 values each, on busy cores, which count double)."""

SHAPES = 64
"""For so many different shapes a function is compiled; for further ones it is called plainly."""

_LOGGERS = ("torch._dynamo", "torch._functorch", "torch._inductor", "torch.utils.cpp_extension")

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], worthwhile: bool) -> Callable[P, R]:
    """Return ``function``, compiled at its first call and anew for each shape it is called with; or
    ``function`` itself unless ``worthwhile``.

    The numbers are the same to rounding. If the machine cannot compile, one line of the log says so
    and the plain function is called from then on; its own errors are raised as ever. Call it with
    few different shapes: use whole batches.
    """
    if not worthwhile:
        return function
    for name in _LOGGERS:  # their warnings are nothing that a user can act on
        logging.getLogger(name).setLevel(logging.ERROR)
    fast: Callable[P, R] | None = _compile(function)
    new = True

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal fast, new
        if fast is None:
            return function(*args, **kwargs)
        if new:
            log.info("Compiling; this takes about half a minute.")
            new = False
        try:
            return fast(*args, **kwargs)
        except Exception as error:
            result = function(*args, **kwargs)  # raises, where the mistake is the function's
            lines = str(error).strip().splitlines() or [type(error).__name__]
            log.warning("torch.compile does not work here (%s): going on without it.", lines[0])
            fast = None
            return result

    return call


def _compile(function: Callable[P, R]) -> Callable[P, R]:
    """Apply torch.compile, with room for ``SHAPES`` shapes.

    torch before 2.15 counts the shapes of all that was compiled from one function and has no
    argument for their limit: there the process's own limit is raised while ``function`` is called.
    """
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # mypy: the overloads lack options that the function has
        fast: Callable[P, R] = torch.compile(  # type: ignore[call-overload]
            function, dynamic=False, recompile_limit=SHAPES, isolate_recompiles=True
        )
        return fast
    fast = torch.compile(function, dynamic=False)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch._dynamo.config.patch(recompile_limit=SHAPES):
            return fast(*args, **kwargs)

    return call


def pays(
    compile: Compile,
    network: nn.Module,
    x: Tensor,
    num_images: int,
    saved_per_value: float = SAVED_PER_VALUE,
) -> bool:
    """Tell whether to compile the forward pass for ``num_images`` like ``x`` [1, C, H, W]: as
    ``compile`` says, or, if that is "auto", when it saves more time than it takes.

    A count decides and not a clock, so that two runs on one machine do the same. On accelerators
    "auto" never compiles: nothing was measured there.
    """
    if compile != "auto":
        return compile
    if x.device.type != "cpu":
        return False
    saved = saved_per_value / torch.get_num_threads() * values_per_image(network, x)
    return num_images * saved > COMPILE_SECONDS


@torch.no_grad()
def values_per_image(network: nn.Module, x: Tensor) -> int:
    """Count the values that normalisations and layers without weights put out for one image of the
    shape of ``x`` [1, C, H, W]."""
    total = 0

    def count(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, Tensor) else 0

    products = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.Identity, nn.Flatten)
    handles: list[RemovableHandle] = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if not list(layer.children()) and not isinstance(layer, products)
    ]
    training = network.training
    try:
        network.eval()(torch.zeros(x.shape, device=x.device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return total
