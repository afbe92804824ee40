"""compare.html: many runs on one page that needs nothing but itself."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ddist.compare.rows import ComparedRow
from ddist.compare.sheet import NUMBERS, Sheet
from ddist.compare.tables import with_count
from ddist.report.embed import png_size
from ddist.report.page import TEMPLATES

GRID = "grid.png"  # in the folder of a set
MAX_SETS = 60
MAX_SET_BYTES = 8_000_000  # of their pictures, as files


def comparison_page(
    title: str,
    sheets: Sequence[Sheet],
    notes: Sequence[str],
    rows: Iterable[ComparedRow],
    plots: Mapping[str, Path],
) -> str:
    """Return HTML with the tables, the ``plots``, files by what is along their axis, and the
    pictures of the sets of ``rows``, as far as they are there."""
    drawn = [(name, file.read_bytes()) for name, file in plots.items()]
    sets, left_out = pictures(rows)
    return TEMPLATES.get_template("compare.html").render(
        title=title, sheets=sheets, notes=notes, numbers=NUMBERS, plots=drawn, sets=sets,
        left_out=left_out,
    )  # fmt: skip


def pictures(rows: Iterable[ComparedRow]) -> tuple[list[tuple[str, bytes]], str]:
    """Return the picture of each set with what it is, those of one dataset and size beside each
    other, and a note on what is left out: of many only the first are shown."""
    captions: dict[Path, str] = {}
    for row in sorted(rows, key=lambda row: (row.first.dataset, row.first.ipc, row.first.method)):
        figure = row.first
        what = f"{figure.method} · {figure.dataset} · {figure.ipc} per class"
        figures = f"{with_count(row)} % under {figure.protocol}"
        file = Path(figure.artifact) / GRID
        captions[file] = f"{captions.get(file, what)} · {figures}"
    shown: list[tuple[str, bytes]] = []
    there = {file: caption for file, caption in captions.items() if file.is_file()}
    total = 0
    for file, caption in there.items():
        content = file.read_bytes()
        total += len(content)
        if len(shown) == MAX_SETS or total > MAX_SET_BYTES:
            break
        if png_size(content):
            shown.append((caption, content))
    left = len(there) - len(shown)
    return shown, f"{len(shown)} of {len(there)} sets are shown." if left else ""
