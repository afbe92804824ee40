"""Experts of others: ``replay_buffer_*.pt`` as MTT's code and its kin write them."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddist.errors import DdistError
from ddist.exchange.opening import load_torch, unlike
from ddist.experts.store import Store
from ddist.experts.stored import MANIFEST
from ddist.storage.atomic import write_file_whole

SHAPE = "a list of trajectories, each a list of epochs, each a list of tensors"


def import_experts(
    path: Path, network: nn.Module, folder: Path, dataset: str, normalization: str
) -> tuple[int, int]:
    """Write the trajectories of ``path``, a file or the folder of ``replay_buffer_*.pt``, to
    ``folder`` as :class:`ddist.experts.Stored` reads them; return their number and their
    epochs (the shortest's). Raises DdistError for others than of ``network``, in the order of its
    parameters."""
    store, num, epochs = Store(folder, torch.float32, network), 0, None
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    for file in buffer_files(path):
        content = load_torch(file)
        if not isinstance(content, list) or not content:
            raise unlike(file, "experts", SHAPE, content)
        for trajectory in content:
            if not isinstance(trajectory, list) or len(trajectory) < 2:
                raise unlike(file, "experts", SHAPE, trajectory)
            for epoch, tensors in enumerate(trajectory):
                store.write(num, epoch, weights_of(file, tensors, shapes))
            num += 1
            epochs = min(len(trajectory) - 1, epochs or len(trajectory) - 1)
    assert epochs is not None
    manifest = {
        "dataset": dataset,
        "normalization": normalization,
        "num_experts": num,
        "epochs": epochs,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
    }
    write_file_whole(folder / MANIFEST, json.dumps(manifest, indent=2).encode())
    return num, epochs


def buffer_files(path: Path) -> list[Path]:
    """Return ``path``, or the buffers in it in the order of their numbers."""
    if path.is_file():
        return [path]
    numbered = [
        (int(match[1]), file)
        for file in path.glob("replay_buffer_*.pt")
        if (match := re.fullmatch(r"replay_buffer_(\d+)\.pt", file.name))
    ]
    if not numbered:
        raise DdistError(f"{path} holds no replay_buffer_*.pt, which format=experts reads.")
    return [file for _, file in sorted(numbered)]


def weights_of(file: Path, tensors: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the weights by the names of the network's parameters, which have the same order."""
    if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
        raise unlike(file, "experts", SHAPE, tensors)
    theirs = [tuple(tensor.shape) for tensor in tensors]
    if theirs != list(shapes.values()):
        raise DdistError(
            f"{file} holds experts of another network: {len(theirs)} tensors, "
            f"{first_difference(theirs, shapes)}: choose the network they were trained with "
            "(network=, its width, depth and norm) and their dataset."
        )
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise DdistError(f"{file} holds an expert whose weights are not finite numbers.")
    return {name: w.detach().float() for name, w in zip(shapes, tensors, strict=True)}


def first_difference(theirs: list[tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> str:
    for shape, (name, ours) in zip(theirs, shapes.items(), strict=False):
        if shape != ours:
            return f"one of {list(shape)} where {name} has {list(ours)}"
    return f"where this one has {len(shapes)}"
