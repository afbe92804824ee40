"""Lines with their spread, one for each of several methods."""

from collections.abc import Sequence
from dataclasses import dataclass

from ddist.report.curve import figure_png

MARKERS = "os^vD<>Pp*X"
ASIDE = 0.01  # of the width, by which lines are moved so that their bars do not hide each other


@dataclass(frozen=True)
class Line:
    """Means and standard deviations over x, of one length."""

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]


def lines_picture(lines: Sequence[Line], x: str, y: str) -> bytes:
    """Draw ``lines`` as a PNG, with bars of one standard deviation; ``x`` and ``y`` say what the
    axes are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(lines):
        marker = MARKERS[number % len(MARKERS)]
        aside = ASIDE * (number - (len(lines) - 1) / 2) * (max(line.x) - min(line.x))
        places = [value + aside for value in line.x]
        axes.errorbar(places, line.mean, line.std, marker=marker, capsize=3, label=line.name)
    axes.set(xlabel=x, ylabel=y)
    axes.set_xticks(sorted({value for line in lines for value in line.x}))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure_png(figure)
