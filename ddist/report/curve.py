"""Curves as the numbers of an inline SVG, which the page's template draws in its colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log10

from matplotlib.ticker import LogLocator, MaxNLocator

Point = tuple[float, float]  # outer steps, value

WIDTH, HEIGHT = 480, 240  # of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 34
MAX_POINTS = 300  # beyond, neighbours are averaged: a screen shows no more


@dataclass(frozen=True)
class Curve:
    """A line, the band around it, and ticks (position, text); positions are in the drawing."""

    title: str
    description: str
    line: str
    band: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    note: str


def curve(
    title: str,
    points: Sequence[Point],
    low: Sequence[Point] | None = None,
    high: Sequence[Point] | None = None,
) -> Curve | None:
    """The curve through ``points``, with a band from ``low`` to ``high`` at the same steps. Without
    them the band spans what was averaged. None where fewer than two values are finite.

    The axis of values is logarithmic where all are positive and span more than two decades.
    """
    found = [
        (x, y, lo, hi)
        for (x, y), (_, lo), (_, hi) in zip(points, low or points, high or points, strict=True)
        if all(map(isfinite, (x, y, lo, hi)))
    ]
    if len({x for x, *_ in found}) < 2:
        return None
    size = -(-len(found) // MAX_POINTS)
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    xs = [sum(p[0] for p in part) / len(part) for part in parts]
    ys = [sum(p[1] for p in part) / len(part) for part in parts]
    lows, highs = (
        [min(p[2] for p in part) for part in parts],
        [max(p[3] for p in part) for part in parts],
    )
    bottom, top = min(lows), max(highs)
    logarithmic = bottom > 0 and top / bottom > 100
    first, last, least = found[0], found[-1], min(found, key=lambda p: p[1])
    most = max(found, key=lambda p: p[1])

    def across(x: float) -> float:
        span = xs[-1] - xs[0]
        return round(LEFT + (x - xs[0]) / span * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        a, b, value = (log10(v) for v in (bottom, top, y)) if logarithmic else (bottom, top, y)
        share = 0.5 if b <= a else (value - a) / (b - a)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def path(values: Sequence[float], steps: Sequence[float]) -> str:
        return " ".join(f"{across(x)},{up(y)}" for x, y in zip(steps, values, strict=True))

    notes = [f"each point is the mean of {size} logged values, the band their range"] * (size > 1)
    if low is not None:
        notes = ["the band goes from the smallest to the largest"]
    if logarithmic:
        notes.append("logarithmic axis")
    has_band = any(lo < hi for lo, hi in zip(lows, highs, strict=True))
    return Curve(
        title=title,
        description=(
            f"{title} over outer steps {first[0]:g} to {last[0]:g}: first {first[1]:.3g}, last "
            f"{last[1]:.3g}, smallest {least[1]:.3g} at step {least[0]:g}, largest "
            f"{most[1]:.3g} at step {most[0]:g}"
        ),
        line=path(ys, xs),
        band=f"{path(lows, xs)} {path(highs[::-1], xs[::-1])}" if has_band else "",
        x_ticks=[(across(x), f"{x:,g}") for x in ticks(xs[0], xs[-1], False, whole=True)],
        y_ticks=[(up(y), f"{y:.4g}") for y in ticks(bottom, top, logarithmic)],
        note="; ".join(notes),
    )


def ticks(low: float, high: float, logarithmic: bool, whole: bool = False) -> list[float]:
    """Round values between ``low`` and ``high``."""
    if logarithmic:
        found = LogLocator(numticks=6).tick_values(low, high)
    else:
        found = MaxNLocator(5, integer=whole).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]
