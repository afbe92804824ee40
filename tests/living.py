"""The bytes of living tensors."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LivingBytes(TorchDispatchMode):
    """Bytes of the storages that were made within the block and are still alive, and their peak.

    Unlike a process's resident size it does not depend on the allocator, on what ran before or on
    the machine. It sees the operators of the backward pass too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {each._cdata for each in storages((args, kwargs))}
        for storage in storages(out):
            if storage._cdata not in given | self._known:  # a view makes nothing
                self._note(storage)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def storages(tree: object) -> list[torch.UntypedStorage]:
    """The storages of all tensors in nested arguments or results."""
    return [each.untyped_storage() for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]
