"""AlexNet trained on ImageNet, for datasets of other classes."""

from pathlib import Path

import torch
from torch import nn

from ddist.errors import DdistError
from ddist.init.base import InitialWeights
from ddist.init.random import device_of
from ddist.networks.base import Weights
from ddist.networks.files import read_weights_file, weights_for

SOURCE = "imagenet"


class ImageNet(InitialWeights):
    """One network: torchvision's AlexNet, whose last layer is a new one of weights 0 and biases 1
    (Wang et al. 2018, the authors' code).

    Args:
        weights: a file of torchvision's state (.pth) or the same as .safetensors; None downloads
            torchvision's (its own folder of torch.hub keeps them).
        download: whether that may happen.
    """

    single = True
    trained = True
    published = True

    def __init__(self, weights: str | Path | None, download: bool) -> None:
        self.file = None if weights is None else Path(weights).expanduser()
        self.download = download
        self._known: Weights | None = None

    def prepare(self, network: nn.Module) -> None:
        self._one(network)

    def draw(self, network: nn.Module, num: int, *keys: int | str) -> Weights:
        device = device_of(network)
        return {
            name: w.to(device).expand(num, *w.shape).clone()
            for name, w in self._one(network).items()
        }

    def held_out(self, network: nn.Module, num: int) -> Weights:
        return self.draw(network, 1)

    def _one(self, network: nn.Module) -> Weights:
        wanted = {name: p.shape for name, p in network.named_parameters()}
        if self._known is None:
            self._known = self._read()
        # In torchvision's order, as the layers are; but for the last one, the head.
        names = [name for name in wanted if not name.startswith("head.")]
        tensors = list(self._known.values())[: len(names)]
        fits = len(tensors) == len(names) and all(
            w.shape == wanted[name] for name, w in zip(names, tensors, strict=True)
        )
        if not fits:
            raise DdistError(
                "The weights of init.source=imagenet are those of torchvision's AlexNet and fit "
                "no other network: choose network=alexnet network.layout=imagenet, on images with "
                "3 channels, such as dataset=voc_crops."
            )
        body = dict(zip(names, (w.float() for w in tensors), strict=True))
        head = {"head.weight": torch.zeros, "head.bias": torch.ones}
        return body | {name: make(wanted[name]) for name, make in head.items()}

    def _read(self) -> Weights:
        if self.file is None:
            return self._fetch()
        try:
            content, _ = read_weights_file(self.file)
        except FileNotFoundError:
            raise DdistError(f"There is no file {self.file}: set init.weights.") from None
        except ValueError as error:
            raise DdistError(
                f"init.weights={self.file} cannot be read ({error}): give torchvision's file of "
                "weights."
            ) from None
        from torchvision.models import alexnet

        with torch.device("meta"):
            theirs = alexnet(weights=None).state_dict()
        last = list(theirs)[-2:]  # for whatever classes
        try:
            return weights_for(content, theirs, any_shape=last)
        except ValueError as error:
            raise DdistError(
                f"init.weights={self.file} are not those of torchvision's AlexNet ({error}): give "
                "torchvision's file of weights."
            ) from None

    def _fetch(self) -> Weights:
        from torchvision.models import AlexNet_Weights

        known = AlexNet_Weights.IMAGENET1K_V1
        kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(known.url).name
        if not (self.download or kept.exists()):
            raise DdistError(
                f"torchvision's weights are not in {kept}: set init.weights to a file of them, or "
                "dataset.download=true."
            )
        try:
            return dict(known.get_state_dict(progress=False, check_hash=True))
        except OSError as error:
            raise DdistError(
                f"torchvision's weights could not be downloaded ({error}): set init.weights to a "
                f"file of them, fetched from {known.url}."
            ) from error
