"""Results that are kept from a computation for its repetition, where that costs much more time than
memory: those of convolutions (selective checkpointing)."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_FORWARD = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default
_FEW_PRODUCTS = 64
"""Per value of a convolution's result: with fewer it is computed again (the first layer's, whose
results are large and cheap)."""

Compute = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
Result = Tensor | None | tuple[Tensor | None, ...]


class Kept(NamedTuple):
    """What ``function`` returned, and the versions of its tensors then: no longer of use once
    somebody has written into them."""

    function: Any
    result: Result
    versions: list[int]


def keep(kept: deque[Kept]) -> AbstractContextManager[object]:
    """Append the results of convolutions and of their gradients to ``kept`` within the block."""

    def compute(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        if _costly(function, args):
            alone = _without_graph(result)
            kept.append(Kept(function, alone, _versions(alone)))
        return result

    return _Computing(compute)


def recall(kept: deque[Kept]) -> AbstractContextManager[object]:
    """Take the results of the same computation from ``kept``, in their order, within the block."""

    def compute(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _costly(function, args) and kept:
            known = kept.popleft()
            if known.function is function and known.versions == _versions(known.result):
                return _without_graph(known.result)
        return function(*args, **kwargs)

    return _Computing(compute)


# torch's class is untyped.
class _Computing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within the block, ``compute(function, args, kwargs)`` gives the result of every operator."""

    def __init__(self, compute: Compute) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.compute = compute

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.compute(func, args, kwargs or {})


def _costly(function: Any, args: tuple[Any, ...]) -> bool:
    if function is _BACKWARD:
        return True
    return function is _FORWARD and args[1][0].numel() >= _FEW_PRODUCTS


def _without_graph(result: Result) -> Result:
    """Return a detached tensor of the same storage, which autograd above may mark as it likes."""
    if isinstance(result, tuple):
        return tuple(None if tensor is None else tensor.detach() for tensor in result)
    return None if result is None else result.detach()


def _versions(result: Result) -> list[int]:
    parts = result if isinstance(result, tuple) else (result,)
    return [tensor._version for tensor in parts if tensor is not None]
