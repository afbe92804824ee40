"""Accuracy by class, and what a class is taken for, from counts of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddist.artifact.grid import png

Counts = NDArray[np.int64]  # [C, C]: true class, predicted class, of all networks together

MAX_TABLE = 20  # classes in a matrix of numbers; more are a picture
MAX_LISTED = 60  # classes that are listed one by one
NUM_EXTREMES = 20  # otherwise: of the lowest and of the highest
NUM_PAIRS = 10  # most frequent mistakes


@dataclass(frozen=True)
class ClassRow:
    """A class: accuracies are fractions; None where the test set has no image of it."""

    name: str
    accuracy: float | None
    baseline: float | None


@dataclass(frozen=True)
class Classes:
    """The classes under one network, as the page shows them."""

    title: str
    rows: list[ClassRow]
    rows_note: str
    matrix: list[tuple[str, list[float]]]  # true class, shares of the predictions; or empty
    names: list[str]
    picture: bytes | None  # PNG, one pixel per pair of classes
    pairs: list[tuple[str, str, float]]  # true, predicted, share of the true class


def classes(
    title: str, counts: Counts, names: Sequence[str], baseline: Counts | None = None
) -> Classes:
    """Make ``counts`` and those of a baseline under the same protocol readable."""
    matrix = shares(counts)
    small = len(names) <= MAX_TABLE
    rows, note = class_rows(counts, names, baseline)
    return Classes(
        title=title,
        rows=rows,
        rows_note=note,
        matrix=[(n, row.tolist()) for n, row in zip(names, matrix, strict=True)] if small else [],
        names=list(names),
        picture=None if small else heat(matrix),
        pairs=most_confused(matrix, names),
    )


def shares(counts: Counts) -> NDArray[np.float64]:
    """Divide each row by its sum; a class without images stays zero."""
    matrix: NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return matrix


def accuracies(counts: Counts) -> list[float | None]:
    """Return the fraction of each class's images that is recognised, the mean over networks."""
    recognised, totals = shares(counts).diagonal().tolist(), counts.sum(1).tolist()
    return [share if total else None for share, total in zip(recognised, totals, strict=True)]


def class_rows(
    counts: Counts, names: Sequence[str], baseline: Counts | None
) -> tuple[list[ClassRow], str]:
    """Return all classes in their order, or the lowest and the highest and a note that says so."""
    other = [None] * len(names) if baseline is None else accuracies(baseline)
    rows = list(map(ClassRow, names, accuracies(counts), other))
    if len(rows) <= MAX_LISTED:
        return rows, ""
    known = [row for row in rows if row.accuracy is not None]
    ranked = sorted(known, key=lambda row: row.accuracy or 0.0)
    note = f"The {NUM_EXTREMES} lowest and the {NUM_EXTREMES} highest of {len(rows)} classes."
    return ranked[:NUM_EXTREMES] + ranked[-NUM_EXTREMES:], note


def most_confused(
    matrix: NDArray[np.float64], names: Sequence[str]
) -> list[tuple[str, str, float]]:
    """Return the pairs (true class, what it is taken for) with the largest shares."""
    confused = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-confused, axis=None, kind="stable")[:NUM_PAIRS]
    pairs = [divmod(int(index), len(matrix)) for index in order]
    return [(names[i], names[j], float(confused[i, j])) for i, j in pairs if confused[i, j] > 0]


def heat(matrix: NDArray[np.float64]) -> bytes:
    """Draw shares as a PNG of one pixel per pair, dark for 0 and bright for 1."""
    colours = matplotlib.colormaps["viridis"](matrix, bytes=True)[..., :3]
    return png(Image.fromarray(np.ascontiguousarray(colours)))
