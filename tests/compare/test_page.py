"""compare.html: what is on it, and what a click on a heading does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from ddist.compare.gather import gather
from ddist.compare.rows import make_rows
from ddist.compare.tables import protocol_sheet
from ddist.report.comparison import comparison_page
from tests.report.test_page import BROWSERS

NETWORKS = {"convnet": {"width": 128, "depth": 3}}


@pytest.fixture
def html(write, tmp_path: Path) -> str:
    """Return the page of three runs, of which the first has a picture and the third a wild name."""
    for name, seconds, accuracy in (("a", 90.0, 0.9), ("b", 3600.0, 0.8), ("c", 5.0, 0.995)):
        changes = {"cost.distill_seconds": seconds, "provenance.config.method.lr.images": seconds}
        file = write(name, changes | ({"network": "<b>"} if name == "c" else {}), accuracy=accuracy)
    grid = file.parents[1] / "a" / "distilled" / "grid.png"
    grid.parent.mkdir()
    Image.new("RGB", (5, 7)).save(grid)
    tables = make_rows(gather([str(tmp_path / "runs")], {}).figures, NETWORKS, 2.0, 2.0)
    (rows,) = tables.values()
    sheets = [protocol_sheet("<i>dc2021_dsa", rows)]
    return comparison_page("3 runs", sheets, ["a note & more"], rows, {})


def test_the_page_has_tables_sets_and_notes_and_needs_nothing_else(html: str) -> None:
    assert html.count("<tr>") == 4 and "90.00 ± 1.00 (5)" in html
    assert "<i>dc2021" not in html and "&lt;i&gt;dc2021_dsa" in html and "a note &amp; more" in html
    assert html.count("data:image/png;base64") == 1  # of the only set that is there
    assert "dm · mnist · 1 per class · 90.00 ± 1.00 (5) % under dc2021_dsa" in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)


def test_a_click_sorts_by_value_and_a_second_one_backwards(html: str, tmp_path: Path) -> None:
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip("no browser: install chromium, so that `chromium` is found")
    acts = """
    const heads = [...document.querySelectorAll("th")], said = [];
    const column = heads.findIndex(h => h.textContent === "distilling");
    for (const _ of [0, 1]) {
      heads[column].firstChild.click();
      said.push([...document.querySelectorAll("tbody tr")].map(r => r.cells[column].textContent));
    }
    document.body.dataset.said = said.join("|");
    """
    file = tmp_path / "compare.html"
    file.write_text(html.replace("</script>", f"{acts}</script>"))
    done = subprocess.run(
        [found[0], "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = re.search(r'data-said="(.*?)"', done.stdout)
    assert said is not None
    assert said[1] == "5.0 s,1 min 30 s,1 h 00 min|1 h 00 min,1 min 30 s,5.0 s"
