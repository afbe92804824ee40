"""Links between documents lead somewhere, and documents are as short as they should be."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
LINK = re.compile(r"""\[[^\]]*\]\(([^)\s]+)\)|src(?:set)?="([^"]+)""")
CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]*`", re.S | re.M)


def links(text: str) -> list[str]:
    return [link or picture for link, picture in LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """Return what links to headings say, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(CODE.sub("", page.read_text())):
        if link.startswith(("http", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_documents_know_what_they_are_read_for() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    reached = {Path(link.partition("#")[0]).name for link in links(readme)}
    known = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert known <= reached, "README leads to each page"


def test_pictures_and_files_that_documents_name_are_kept() -> None:
    said = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        pytest.skip("no git checkout")
    kept = set(said.stdout.splitlines())
    named = {
        name
        for page in PAGES
        for name in re.findall(
            r"`((?:ddist|conf|scripts|docs|tests)/[\w./-]+\.\w+)`", page.read_text()
        )
    }
    examples = {"ddist/methods/mean_abs.py", "ddist/sets/NAME/README.md"}
    assert named and named - examples <= kept
