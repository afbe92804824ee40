"""report.html: a run on one page that needs nothing but itself. What is missing is left out."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ddist.artifact.card import FACTS, describe
from ddist.artifact.figures import BASELINES, DISTILLED, accuracy, compared_rows, interval, on_all
from ddist.formatting import duration, size
from ddist.report.classes import Classes, Counts, classes
from ddist.report.course import course_picture, has_course
from ddist.report.curve import Curve, Point, curve
from ddist.report.embed import images_by_class, pictures_over_steps, png_uri
from ddist.report.table import cost_rows, figure_rows

if TYPE_CHECKING:
    from ddist.artifact.dataset import DistilledDataset

MAX_CURVES = 12
MAX_NETWORKS = 8  # whose classes are shown

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,  # names of classes and files are anybody's
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"percent": lambda share: f"{100 * share:.1f}", "png_uri": png_uri}


def page(
    results: dict[str, Any],
    distilled: "DistilledDataset",
    *,
    location: str,
    confusion: Mapping[str, Counts] | None = None,
    metrics: Mapping[str, Sequence[Point]] | None = None,
    pictures: Sequence[tuple[int, bytes]] = (),
    overrides: Sequence[str] | None = None,
) -> str:
    """Return HTML, in which everything that comes from outside is escaped.

    Args:
        results: the dict of results.json.
        distilled: the set that was evaluated.
        location: its folder, for ``ddist.load``.
        confusion: counts of predictions by the row of ``results`` they belong to:
            ``evaluation/0``, ``baselines/random``.
        metrics: logged values over the outer steps.
        pictures: the images while they were learned: outer step and PNG file.
        overrides: the words of the command line, where they are known.
    """
    images, images_note = images_by_class(distilled)
    frames, frames_note = pictures_over_steps(pictures)
    return TEMPLATES.get_template("page.html").render(
        title=f"{results['method']} · {results['dataset']} · {results['ipc']} per class",
        headline=headline(results, distilled),
        tables=tables(results),
        on_all=on_all(results),
        course=course_picture(results) if has_course(results) else None,
        images=images,
        images_note=images_note,
        num_images=len(distilled.images),
        factor=distilled.factor,
        frames=frames,
        frames_note=frames_note,
        curves=curves(metrics or {}),
        networks=networks(results, confusion or {}, distilled.meta["class_names"]),
        figures=figure_rows(results),
        cost=cost_rows(results),
        location=repr(location),
        repr_own=repr("distilled"),
        facts=facts(results, distilled),
        command=None if overrides is None else shlex.join(["ddist", *overrides]),
        config=yaml.safe_dump(
            results.get("provenance", {}).get("config"), sort_keys=False, allow_unicode=True
        ),
    )


def headline(results: dict[str, Any], distilled: "DistilledDataset") -> list[tuple[str, str, str]]:
    """Return the few figures above everything: what, how much, and more about it."""
    rows = compared_rows(results)
    first = rows[0][1]
    lines = [
        (name, accuracy(row).rpartition(" (")[0] + " %", f"{row['network']}, {row['protocol']}")
        for name, row in rows
        if name in (DISTILLED, BASELINES["random"])
        and (row["network"], row["protocol"]) == (first["network"], first["protocol"])
    ]
    shape = "×".join(map(str, distilled.meta["image_shape"]))
    lines.append(("images", f"{len(distilled.images):,}", f"{shape}, {size(distilled.num_bytes)}"))
    seconds = results.get("cost", {}).get("distill_seconds")
    if seconds is not None:
        steps = results["steps"]
        more = f"{steps:,} outer steps" if steps else "no outer steps"
        lines.append(("distilled in", duration(seconds), more))
    return lines


def tables(results: dict[str, Any]) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """Return for each protocol, as two are never comparable: trained on, network, accuracy,
    interval."""
    rows = compared_rows(results)
    return [
        (
            protocol,
            [
                (name, row["network"], accuracy(row), interval(row))
                for name, row in rows
                if row["protocol"] == protocol
            ],
        )
        for protocol in dict.fromkeys(row["protocol"] for _, row in rows)
    ]


def curves(metrics: Mapping[str, Sequence[Point]]) -> list[Curve]:
    """Return a curve for each metric over the outer steps, the loss first. A metric that comes as
    ``/mean``, ``/min`` and ``/max`` is one curve in a band."""
    drawn = []
    for name in sorted(metrics, key=lambda name: (name != "distill/loss", name)):
        stem, _, statistic = name.rpartition("/")
        low, high = metrics.get(f"{stem}/min"), metrics.get(f"{stem}/max")
        if low is None or high is None:
            drawn.append(curve(name, metrics[name]))
        elif statistic == "mean" and len(low) == len(high) == len(metrics[name]):
            drawn.append(curve(stem, metrics[name], low, high))
    return [line for line in drawn if line is not None][:MAX_CURVES]


def networks(
    results: dict[str, Any], confusion: Mapping[str, Counts], names: Sequence[str]
) -> list[Classes]:
    """Return the classes under each network, beside random real images where those were counted
    too."""
    shown = []
    for i, row in enumerate(results["evaluation"][:MAX_NETWORKS]):
        counts = confusion.get(f"evaluation/{i}")
        if counts is not None and counts.shape == (len(names), len(names)):
            other = confusion.get("baselines/random" + (f":{row['network']}" if i else ""))
            title = f"{row['network']}, {row['protocol']}"
            shown.append(classes(title, counts, names, other))
    return shown


def facts(results: dict[str, Any], distilled: "DistilledDataset") -> list[tuple[str, str]]:
    """Return what was run: names and values."""
    provenance = results.get("provenance", {})
    meta = {"created": distilled.meta.get("created")}
    versions = {"versions": {key: provenance.get(key) for key in ("ddist", "torch")}}
    known = {**meta, **versions, **results}
    rows = [(key, describe(known[key])) for key in FACTS if known.get(key) is not None]
    return [
        ("dataset", str(results["dataset"])),
        *rows,
        ("signature", str(provenance.get("signature"))),
    ]
