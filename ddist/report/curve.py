"""Curves over the outer steps, drawn by matplotlib."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Point = tuple[float, float]  # outer steps, value

MAX_POINTS = 300  # beyond, neighbours are averaged: a screen shows no more


@dataclass(frozen=True)
class Curve:
    """A curve, averaged to be drawn: steps, values, and the band around them, of one length."""

    title: str
    steps: list[float]
    values: list[float]
    low: list[float]
    high: list[float]
    description: str
    note: str

    @property
    def logarithmic(self) -> bool:
        """Tell whether all values are positive and span more than two decades."""
        return min(self.low) > 0 and max(self.high) / min(self.low) > 100

    def picture(self) -> bytes:
        """Draw it as a PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.8, 2.4), layout="constrained")
        axes = figure.subplots()
        (line,) = axes.plot(self.steps, self.values)
        axes.fill_between(self.steps, self.low, self.high, color=line.get_color(), alpha=0.2)
        axes.set_yscale("log" if self.logarithmic else "linear")
        axes.grid(alpha=0.3)
        return figure_png(figure)


def figure_png(figure: "Figure") -> bytes:
    """Return a figure of matplotlib as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def curve(
    title: str,
    points: Sequence[Point],
    low: Sequence[Point] | None = None,
    high: Sequence[Point] | None = None,
) -> Curve | None:
    """Return the curve through ``points``, with a band from ``low`` to ``high`` at the same steps;
    without them the band spans what was averaged. None where fewer than two values are finite."""
    finite = [
        (x, y, least, most)
        for (x, y), (_, least), (_, most) in zip(points, low or points, high or points, strict=True)
        if all(map(isfinite, (x, y, least, most)))
    ]
    if len({x for x, *_ in finite}) < 2:
        return None
    size = -(-len(finite) // MAX_POINTS)
    chunks = [list(zip(*finite[i : i + size], strict=True)) for i in range(0, len(finite), size)]
    first, last = finite[0], finite[-1]
    smallest, largest = (pick(finite, key=lambda row: row[1]) for pick in (min, max))
    notes = [f"each point is the mean of {size} logged values, the band their range"] * (size > 1)
    return Curve(
        title=title,
        steps=[sum(x) / len(x) for x, *_ in chunks],
        values=[sum(y) / len(y) for _, y, *_ in chunks],
        low=[min(least) for *_, least, _ in chunks],
        high=[max(most) for *_, most in chunks],
        description=(
            f"{title} over outer steps {first[0]:g} to {last[0]:g}: first {first[1]:.3g}, last "
            f"{last[1]:.3g}, smallest {smallest[1]:.3g} at step {smallest[0]:g}, largest "
            f"{largest[1]:.3g} at step {largest[0]:g}"
        ),
        note="; ".join(notes) if low is None else "the band goes from the smallest to the largest",
    )
