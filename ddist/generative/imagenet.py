"""ImageNet's classes, where a dataset's folders are called by their numbers in WordNet."""

import re
from collections.abc import Sequence

NUM_CLASSES = 1000


def are_numbers(class_names: Sequence[str]) -> bool:
    """Tell whether all names are numbers of WordNet, such as n01440764."""
    return all(re.fullmatch(r"n\d{8}", name) for name in class_names)


def are_all(class_names: Sequence[str]) -> bool:
    """Tell whether they are the numbers of all classes, whose order is then that of published
    models: class folders are sorted by name."""
    return are_numbers(class_names) and len(set(class_names)) == NUM_CLASSES


def names_of_all(class_names: Sequence[str]) -> list[str] | None:
    """Return the names (torchvision's) of all classes; None if some are missing."""
    if not are_all(class_names):
        return None
    from torchvision.models import ResNet18_Weights

    names: list[str] = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return list(names)
