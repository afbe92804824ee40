"""The base of methods that differentiate through a student's training."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

from ddist.inner.parts import fastest_graph, footprint
from ddist.inner.unroll import Graph, Unroll
from ddist.methods.base import Method


class Unrolled(Method):
    """The gradient of the outer loss passes through the student's steps.

    Args:
        unroll: which gradient, and at what memory (see :func:`ddist.inner.unroll.unroll`); "auto",
            the fastest exact one that leaves enough memory free.
    """

    def __init__(self, *, unroll: Unroll, **common: Any) -> None:
        super().__init__(**common)
        self.unroll = unroll

    @abstractmethod
    def unrolled(self) -> tuple[int, int]:
        """Return the most images of a student step and the steps that are differentiated."""

    @cached_property
    def graph(self) -> Graph:
        """Which gradient it is: the same in all of a run, as the free memory changes."""
        if self.unroll != "auto":
            return self.unroll
        one = footprint(self.network, self.data.image_shape)
        return fastest_graph(one, *self.unrolled(), self.data.device)

    def num_bytes(self) -> int:
        one = footprint(self.network, self.data.image_shape)
        return one.unrolled(*self.unrolled(), self.graph)
