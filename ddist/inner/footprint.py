"""How much memory images take on their way through a network, before any is taken."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ddist.inner.stacking import mode
from ddist.networks.base import ImageShape

# Measured multiples, on CPUs, of what one image saves for its gradient: at the peak of a pass with
# the gradient in the weights, and of a differentiable step of gradient descent that is pulled back
# with the graph rebuilt step by step (in one graph, each further step adds half as much again).
# The latter is of a process's resident memory. Tensors alone take 2 (without a norm) to 3 (with
# one); the rest are the buffers of the operators and what the allocator holds between them.
GRADIENT = 2.0
UNROLLED = 4.5
# The same of the largest tensor: what is alive at once in a pass without a graph.
FORWARD = 2.0

GRAPH_BYTES = 2**32
"""Most activations that are held at once where they can be had in parts; less on machines with
little memory (see :func:`activation_limit`)."""

SHARE = 0.25


class Footprint:
    """What one image [C, H, W] leaves in ``network``, in bytes of its weights' precision.

    Attributes:
        saved: all tensors that its gradient needs.
        largest: the largest of them.
        weights: the network's own, once.
    """

    def __init__(self, network: nn.Module, image_shape: ImageShape) -> None:
        sizes: dict[int, int] = {}
        own = [*network.parameters(), *network.buffers()]  # no image's, however many there are
        weights = {tensor.untyped_storage().data_ptr() for tensor in own}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        like = next(network.parameters(), torch.empty(0))
        image = torch.zeros(1, *image_shape, device=like.device, dtype=like.dtype)
        with torch.enable_grad(), mode(network, training=False), saved_tensors_hooks(keep, _same):
            kept = network(image)  # its graph, and what that saves: no address comes twice
        del kept
        self.saved = max(sum(sizes.values()), image.nbytes)
        self.weights = sum(p.nbytes for p in network.parameters())
        self.largest = max([*sizes.values(), image.nbytes])

    def forward(self, num: int) -> int:
        """Return the peak bytes of ``num`` images without a graph."""
        return round(FORWARD * num * self.largest)

    def gradient(self, num: int) -> int:
        """Return the peak bytes of the gradient of ``num`` images and of a step along it."""
        return round(GRADIENT * num * self.saved) + 2 * self.weights

    def unrolled(self, num: int, steps: int, graph: str) -> int:
        """Return the peak bytes of a gradient through ``steps`` steps on ``num`` images each (see
        :func:`ddist.inner.unroll.unroll` for ``graph``)."""
        further = {"autograd": UNROLLED / 2, "selective": 0.5}.get(graph, 0.0)
        images = round((UNROLLED + further * (steps - 1)) * num * self.saved)
        return images + (steps + 3) * self.weights


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free now for tensors on ``device``; None if nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory() if device.type == "cpu" else None


def _same(tensor: Tensor) -> Tensor:
    return tensor


def activation_limit(device: torch.device) -> int:
    """Return the most bytes of activations to hold at once: on a GPU half of its memory. It is the
    same in every run on one machine, because other batch splits round differently."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 2)
    total = total_memory()
    return GRAPH_BYTES if total is None else min(GRAPH_BYTES, int(SHARE * total))


def total_memory() -> int | None:
    """Return the bytes of memory that this process may have: the machine's, or its control group's
    if that has less; None if the system does not say."""
    return _least(meminfo().get("MemTotal"), *(limit for limit, _ in control_groups()))


def available_memory() -> int | None:
    """Return the bytes of that memory that are free now; None if the system does not say."""
    left = (limit - used for limit, used in control_groups())
    return _least(meminfo().get("MemAvailable"), *left)


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def meminfo(path: Path = Path("/proc/meminfo")) -> Mapping[str, int]:
    """Read Linux's figures of the machine's memory, in bytes by their names; none elsewhere."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", "").split() for line in lines)
    return {pair[0]: 1024 * int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def control_groups(root: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int]]:
    """Return (limit, bytes in use that are no cache) of this process's control groups, version 1 or
    2, that limit its memory, as those of containers and cluster jobs do."""
    held = []
    for folder in group_folders(root):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                most = int((folder / limit).read_text())  # "max": none
                now = int((folder / used).read_text())
                kept = _entry(folder / "memory.stat", cache)
            except (OSError, ValueError):
                continue
            held.append((most, max(0, now - kept)))
    return held


def group_folders(root: Path, own: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """Return the folders of the process's memory control groups and of those around them."""
    folders = [root, root / "memory"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            start = root / controllers
            inner = start / path.lstrip("/")
            folders += [
                inner_folder
                for inner_folder in (inner, *inner.parents)
                if inner_folder.is_relative_to(start)
            ]
    return list(dict.fromkeys(folders))


def _entry(path: Path, name: str) -> int:
    """Return the number beside ``name`` in a file of lines "name number"; 0 if it is not there."""
    pairs = (line.split() for line in path.read_text().splitlines())
    return next((int(pair[1]) for pair in pairs if pair[:1] == [name]), 0)
