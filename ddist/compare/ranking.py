"""How alike two rankings are: rank correlations with bootstrap intervals, and a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from ddist.compare.plots import COLOURS
from ddist.report.curve import figure_png
from ddist.report.lines import MARKERS

Values = NDArray[np.float64]

RESAMPLED = 1000
COVERED = 0.95
FEWEST = 3  # of which an order says anything


def spearman(x: Values, y: Values) -> Values:
    """Return Spearman's rho of ``x`` and ``y`` [..., n], ties sharing their mean rank; NaN where
    all values of one are equal."""
    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


def kendall(x: Values, y: Values) -> Values:
    """Return Kendall's tau-b of ``x`` and ``y`` [..., n]: the ordered pairs less the reversed, over
    the geometric mean of the pairs that are not tied in each; NaN where there are none."""
    one, other = (np.sign(v[..., :, None] - v[..., None, :]) for v in (x, y))
    return ratio((one * other).sum((-2, -1)), (one**2).sum((-2, -1)), (other**2).sum((-2, -1)))


def pearson(x: Values, y: Values) -> Values:
    """Return the correlation of ``x`` and ``y`` [..., n]."""
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    return ratio((x * y).sum(-1), (x**2).sum(-1), (y**2).sum(-1))


def ratio(both: Values, one: Values, other: Values) -> Values:
    """Return both / sqrt(one * other); NaN where the denominator is 0."""
    scale = np.sqrt(one * other)
    return np.divide(both, scale, out=np.full_like(scale, np.nan), where=scale > 0)


MEASURES: Mapping[str, Callable[[Values, Values], Values]] = {
    "spearman": spearman,
    "kendall": kendall,
}


@dataclass(frozen=True)
class Agreement:
    """How a ranking of some settings agrees with that by training on all images.

    ``low`` and ``high`` are the bootstrap interval of ``value`` over the settings; all three are
    None where they cannot be told.
    """

    proxy: str
    measure: str
    top: int | None  # of the best settings when trained on all images; None: all
    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def agreements(
    proxies: Mapping[str, Sequence[float]],
    truth: Sequence[float],
    tops: Sequence[int],
    seed: int,
) -> list[Agreement]:
    """Return how the accuracies of each proxy, by its name, agree with ``truth`` over the same
    settings: all of them, and the ``tops`` best in truth, of those there are enough for."""
    best_first = np.argsort(-np.asarray(truth, dtype=float), kind="stable")
    sizes = [None, *(top for top in tops if FEWEST <= top < len(truth))]
    return [
        agreement(name, measure, top, np.asarray(values)[best_first[:top]],
                  np.asarray(truth)[best_first[:top]], seed)
        for name, values in proxies.items()
        for top in sizes
        for measure in MEASURES
    ]  # fmt: skip


def agreement(
    proxy: str, measure: str, top: int | None, x: Values, y: Values, seed: int
) -> Agreement:
    """Return the agreement of ``x`` and ``y`` [n], with the interval from drawing the n settings
    with replacement ``RESAMPLED`` times."""
    value = float(MEASURES[measure](x, y))
    if not np.isfinite(value):
        return Agreement(proxy, measure, top, None, None, None)
    drawn = np.random.default_rng(seed).integers(len(x), size=(RESAMPLED, len(x)))
    resampled = MEASURES[measure](x[drawn], y[drawn])
    outside = (1 - COVERED) / 2
    low, high = np.nanquantile(resampled, [outside, 1 - outside])
    return Agreement(proxy, measure, top, value, float(low), float(high))


def first_choice(values: Sequence[float], truth: Sequence[float]) -> float:
    """Return the ``truth`` of the setting that a proxy ranks first: of equals the mean."""
    accuracies, wanted = np.asarray(values), np.asarray(truth)
    return float(wanted[accuracies == accuracies.max()].mean())


def scatter(proxies: Mapping[str, Sequence[float]], truth: Sequence[float]) -> bytes:
    """Draw a PNG with a panel for each proxy: its accuracies against ``truth``, in per cent, a
    point for each setting."""
    figure = Figure(figsize=(3.4 * len(proxies), 3.4), layout="constrained")
    panels = figure.subplots(1, len(proxies), squeeze=False, sharey=True)[0]
    for number, (panel, (name, values)) in enumerate(zip(panels, proxies.items(), strict=True)):
        x, y = ([100 * value for value in accuracies] for accuracies in (values, truth))
        style = {"color": COLOURS[number], "marker": MARKERS[number], "alpha": 0.7, "s": 18}
        panel.scatter(x, y, **style)
        rho = float(spearman(np.asarray(values), np.asarray(truth)))
        panel.set_title(f"{name}\nSpearman {rho:.2f}", fontsize=10)
        panel.set_xlabel("test accuracy trained on it, %")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("trained on all images, %")
    return figure_png(figure)
