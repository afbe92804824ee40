"""The classes of a dataset: some of them, and those that cannot be tested."""

import difflib
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from ddist.data.ondisk import Images
from ddist.errors import DdistError

log = logging.getLogger(__name__)

SHOWN = 5  # names in a message


def choose_classes(
    name: str, class_names: Sequence[str], wanted: Sequence[int | str] | None
) -> list[int]:
    """Return the numbers of the ``wanted`` classes, in that order; of all classes for None.

    A class is given by its name or by its number, from 0, among ``class_names``; a number that is
    also the name of a class means that class.

    Raises:
        DdistError: a class is unknown, shares its name with another, or is chosen twice.
            ``name`` is the dataset's, for the message.
    """
    if wanted is None:
        return list(range(len(class_names)))
    chosen = [_find(name, class_names, class_) for class_ in wanted]
    if len(set(chosen)) < len(chosen):
        twice = next(class_names[c] for c in chosen if chosen.count(c) > 1)
        raise DdistError(f"The class {twice} of {name} is chosen twice: name each class once.")
    return chosen


def _find(name: str, class_names: Sequence[str], wanted: int | str) -> int:
    places = [c for c, known in enumerate(class_names) if known == str(wanted)]
    if len(places) == 1:
        return places[0]
    if places:
        raise DdistError(
            f"The classes {', '.join(map(str, places))} of {name} are all called {wanted}: choose "
            "by number."
        )
    is_number = isinstance(wanted, int) and not isinstance(wanted, bool)
    if is_number and 0 <= int(wanted) < len(class_names):
        return int(wanted)
    near = difflib.get_close_matches(str(wanted), class_names, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    known = ", ".join(class_names[:SHOWN]) + (", …" if len(class_names) > SHOWN else "")
    raise DdistError(
        f"{name} has no class {wanted!r}{hint}: choose from its {len(class_names)} names ({known}) "
        f"or the numbers from 0 to {len(class_names) - 1}."
    )


def take_classes(
    x: Images, y: Tensor, chosen: Sequence[int], num_classes: int
) -> tuple[Images, Tensor]:
    """Return the images [N, C, H, W] of the ``chosen`` classes, out of ``num_classes``, and their
    labels [N], renumbered 0, 1, … in that order."""
    if list(chosen) == list(range(num_classes)):
        return x, y
    new = torch.full((num_classes,), -1)
    new[torch.tensor(chosen)] = torch.arange(len(chosen))
    labels = new[y]
    rows = (labels >= 0).nonzero().flatten()
    return (x[rows] if isinstance(x, Tensor) else x.pick(rows)), labels[rows]


def untested_classes(name: str, class_names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Return the classes of the dataset ``name`` that have no test image, and warn about them;
    ``counts`` are the test images of each class."""
    untested = [
        class_name for class_name, count in zip(class_names, counts, strict=True) if count == 0
    ]
    if untested:
        log.warning(
            "%s has no test image of %d of its %d classes (%s): its accuracy says nothing of them.",
            name,
            len(untested),
            len(class_names),
            ", ".join(untested[:SHOWN]) + (", …" if len(untested) > SHOWN else ""),
        )
    return untested
