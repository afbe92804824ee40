"""Teachers whose weights come from elsewhere: a file, torchvision or timm."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddist.data import RealData
from ddist.data.statistics import mean_std
from ddist.errors import DdistError
from ddist.networks.base import Weights
from ddist.networks.files import class_names_in, read_weights_file, weights_for
from ddist.networks.timm import timm_library
from ddist.settings.ranges import Positive
from ddist.teachers.base import Teacher

log = logging.getLogger(__name__)

Found = tuple[object, list[str] | None]
"""What has the weights, as a file has them, and the names of the classes in their order, where they
are known."""


class Loaded(Teacher):
    """``network`` with the weights of a file.

    The file is .safetensors, whose metadata may name the classes (``class_names``, a JSON list), or
    what torch.save wrote of a state dict, of which nothing but tensors is read.

    Args:
        network: whose weights they are.
        source: the data that it is asked about.
        weights: the file.
        class_names: of the weights, in their order: a list, or a text file with a name in each
            line; None for what the file says.
        mean, std: per channel, of the pixels that it was trained with; None where it takes images
            as they are in training space.

    Where the names of the classes are known they have to be the dataset's; its logits are put into
    the dataset's order.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        source: RealData,
        weights: str | None,
        class_names: Sequence[str | int] | str | None,
        mean: Sequence[float] | None,
        std: Sequence[Positive] | None,
    ) -> None:
        super().__init__(network, source)
        self.weights, self.class_names = weights, class_names
        self._order: Tensor | None = None  # of the dataset's classes among the weights'
        known = mean is not None or std is not None
        self._space = mean_std(source.train.x, mean, std) if known else None

    def prepare(self, x: Tensor) -> Tensor:
        if self._space is None:
            return x
        return self._space.to(x.device)(self.source.normalization.inverse(x))

    def arrange(self, logits: Tensor) -> Tensor:
        return logits if self._order is None else logits[:, self._order.to(logits.device)]

    def check(self) -> None:
        self._read()

    def load(self, network: nn.Module) -> None:
        network.load_state_dict(self._read())

    def _read(self) -> Weights:
        """Return the weights and note the order of their classes. Raises DdistError if they are not
        the network's or, as far as their names are known, the classes are not the dataset's."""
        content, known = self.find()
        names = known if self.class_names is None else read_names(self.class_names)
        self._order = order_of_classes(names, self.source)
        try:
            return weights_for(content, self._network.state_dict())
        except ValueError as error:
            raise DdistError(
                f"The weights {self.weights} are not those of this network for "
                f"{self.source.num_classes} classes ({error}): choose the network that they were "
                "trained with."
            ) from None

    def find(self) -> Found:
        """Find the weights and the names of their classes."""
        if self.weights is None:
            raise DdistError(
                "Which weights has the teacher? Name their file: teacher.weights=FILE."
            )
        return read_weights(Path(self.weights).expanduser())


class Published(Loaded):
    """A network of torchvision or timm with the weights that the library publishes, or those of a
    file.

    Args:
        library: "torchvision" or "timm".
        model: the library's name of the network.
        weights: a file (see :class:`Loaded`); or torchvision's name of the weights, such as
            IMAGENET1K_V1, or None for timm's own, which are downloaded.
        source, class_names, mean, std: see :class:`Loaded`.
    """

    def __init__(
        self,
        *,
        library: Literal["torchvision", "timm"],
        model: str,
        source: RealData,
        **options: Any,
    ) -> None:
        if library == "torchvision" and source.image_shape[0] != 3:
            raise DdistError("Teachers of torchvision take colour images: set dataset.channels=3.")
        self.library, self.model = library, model
        with torch.random.fork_rng(devices=[]):
            super().__init__(network=self._empty(source), source=source, **options)

    def _empty(self, source: RealData) -> nn.Module:
        try:
            if self.library == "timm":
                network: nn.Module = timm_library("teacher=timm").create_model(
                    self.model, num_classes=source.num_classes, in_chans=source.image_shape[0]
                )
                return network
            from torchvision.models import get_model

            network = get_model(self.model, weights=None, num_classes=source.num_classes)
            return network
        except (RuntimeError, TypeError, ValueError) as error:
            raise DdistError(
                f"{self.library} cannot build the teacher {self.model!r}: {error}; set "
                "teacher.model."
            ) from error

    def find(self) -> Found:
        named = None if self.weights is None else Path(self.weights).expanduser()
        if named is not None and (named.suffix or named.exists()):
            return read_weights(named)
        try:
            return self._published()
        except (OSError, RuntimeError) as error:
            raise DdistError(
                f"The weights of the teacher {self.model} cannot be downloaded ({error}): set "
                "teacher.weights to a file."
            ) from error

    def _published(self) -> Found:
        if self.library == "timm":
            make = timm_library("teacher=timm").create_model
            return make(self.model, pretrained=True).state_dict(), None
        from torchvision.models import get_model_weights

        known = get_model_weights(self.model).__members__
        if self.weights not in known:
            raise DdistError(
                f"torchvision has no weights {self.weights!r} of {self.model}: set teacher.weights "
                f"to a file or to one of {', '.join(known)}."
            )
        entry = known[self.weights]
        names = entry.meta.get("categories")
        # Folders of ImageNet are called by its numbers, whose order is that of the weights.
        numbered = all(re.fullmatch(r"n\d{8}", name) for name in self.source.class_names)
        return entry.get_state_dict(progress=False), None if numbered else names


def read_weights(path: Path) -> Found:
    """Read a file's weights, on the CPU, and its class names. Raises DdistError if it is missing or
    damaged, or neither .safetensors nor written by torch.save."""
    try:
        content, metadata = read_weights_file(path)
        names = json.loads(metadata.get("class_names", "null"))
    except FileNotFoundError:
        raise DdistError(f"There is no file {path}, which teacher.weights names.") from None
    except ValueError as error:
        raise DdistError(
            f"The teacher's file {path} cannot be read ({error}): copy it again, or save its "
            "weights alone, with torch.save(network.state_dict(), FILE) or as .safetensors."
        ) from None
    if names is not None:
        return content, [str(name) for name in names]
    return content, class_names_in(content)


def read_names(names: Sequence[str | int] | str) -> list[str]:
    """Return the names in a list, or in the lines of a text file (a final newline is optional)."""
    if not isinstance(names, str):
        return [str(name) for name in names]
    try:
        text = Path(names).expanduser().read_text(encoding="utf-8-sig")  # with or without a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise DdistError(
            f"teacher.class_names is a list or a text file; {names} cannot be read ({reason})."
        ) from None
    return [line.rstrip() for line in text.rstrip().split("\n")]


def order_of_classes(names: Sequence[str] | None, source: RealData) -> Tensor | None:
    """Return where each class of ``source`` is among a teacher's ``names``, int64 [K]; None if
    these are not known, or in the same order.

    Raises:
        DdistError: the names are those of other classes.
    """
    if names is None or list(names) == list(source.class_names):
        return None
    if sorted(names) == sorted(source.class_names):
        log.info("The teacher's classes are put into the order of %s.", source.name)
        return torch.tensor([list(names).index(name) for name in source.class_names])
    pairs = zip([*names, "none"], [*source.class_names, "none"], strict=False)
    at, (theirs, ours) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise DdistError(
        f"The teacher's {len(names)} classes are not the {source.num_classes} of {source.name} "
        f"(class {at} is {theirs!r} there and {ours!r} here): take a teacher of this dataset, or "
        "name its classes as the dataset does, in the order of the weights, with "
        "teacher.class_names."
    )
