"""An endless sequence whose elements depend on their index alone, so that resuming is exact."""

import itertools
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Element = TypeVar("Element")


class Endless(Generic[Element]):
    """Iterates over ``element(i)`` for i = ``start()``, ``start()`` + 1, …

    ``start`` is asked when an iteration begins, not before: a Trainer knows the step from which
    it resumes only after its loader has been made.
    """

    def __init__(self, start: Callable[[], int], element: Callable[[int], Element]) -> None:
        self.start, self.element = start, element

    def __iter__(self) -> Iterator[Element]:
        return map(self.element, itertools.count(self.start()))
