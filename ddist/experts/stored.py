"""Experts that somebody else has trained, imported by ``task=import format=experts``."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.experts.store import Store
from ddist.init.random import device_of
from ddist.networks.base import Weights

MANIFEST = "experts.json"  # what they are: dataset, normalization, num_experts, epochs, shapes


class Stored:
    """The experts in ``folder``, in the place of :class:`ddist.experts.Trajectories`: nothing
    is ever trained. Raises DdistError for a folder that holds none.

    Args:
        folder: what ``task=import format=experts`` wrote.
        source: the data of the run.
        options: of experts that are trained, which these are not.
    """

    def __init__(self, *, folder: str | None, source: RealData, **options: Any) -> None:
        if folder is None:
            raise DdistError(
                "trajectories=stored needs the folder that task=import format=experts wrote: "
                "trajectories.folder=FOLDER."
            )
        self.path, self.source = Path(folder).expanduser(), source
        try:
            manifest = json.loads((self.path / MANIFEST).read_text())
            self.num_experts, self.epochs = int(manifest["num_experts"]), int(manifest["epochs"])
            self.shapes = {name: tuple(shape) for name, shape in manifest["shapes"].items()}
            self.dataset, self.normalization = manifest["dataset"], manifest["normalization"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DdistError(
                f"{self.path} holds no experts that task=import format=experts wrote (a readable "
                f"{MANIFEST})."
            ) from None

    def prepare(self, network: nn.Module, epochs: int) -> list[float]:
        """Raise a DdistError unless the experts are of this network and data, and long enough.
        Return no accuracies, as they are not known."""
        shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
        if shapes != self.shapes:
            raise DdistError(
                f"The experts in {self.path} are of another network ({differing(self.shapes)} "
                f"and here {differing(shapes)}): choose the one they were imported for."
            )
        kind = self.source.normalization.state()["kind"]
        for name, theirs, ours in (
            ("dataset", self.dataset, self.source.name),
            ("dataset.normalize", self.normalization, kind),
        ):
            if theirs != ours:
                raise DdistError(
                    f"The experts in {self.path} were trained with {name}={theirs}, not {ours}."
                )
        if epochs > self.epochs:
            raise DdistError(
                f"Experts of {epochs} epochs are needed, and those in {self.path} have "
                f"{self.epochs}: choose a smaller method.max_start_epoch."
            )
        return []

    def missing(self, network: nn.Module, epochs: int) -> list[tuple[int, int]]:
        """Return an empty list, as nothing is ever trained."""
        return []

    def read(self, network: nn.Module, expert: int, epoch: int) -> Weights:
        """Return one expert's weights after ``epoch`` epochs, float32, on the network's device."""
        store = Store(self.path, torch.float32, network)
        stored = store.read(expert, epoch)
        if stored is None:
            raise DdistError(
                f"The expert file {store.path(expert, epoch)} is not there or damaged: import the "
                "experts again."
            )
        return {name: w.to(device_of(network), torch.float32) for name, w in stored.items()}

    def folder(self, network: nn.Module) -> Path:
        """Return the folder in which the experts lie."""
        return self.path


def differing(shapes: dict[str, tuple[int, ...]]) -> str:
    numbers = sum(int(torch.Size(shape).numel()) for shape in shapes.values())
    return f"{numbers:,} weights in {len(shapes)} tensors"
