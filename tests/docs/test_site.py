"""The site that Sphinx makes of the documents: no warnings, and every link leads somewhere."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import documents
import pytest

ROOT = documents.ROOT


class Page(HTMLParser):
    """Where a page's links lead, and where others can lead in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name in {"href", "src"}:
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as docs/contributing.md says, with warnings as errors, and elsewhere."""
    place = tmp_path_factory.mktemp("site")
    strictly = ("-q", "-W", "--keep-going", "-n", "-d", place / "doctrees")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strictly, "-c", "docs", ".", place / "html"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return place / "html"


def test_every_document_is_a_page(site: Path) -> None:
    made = {str(path.relative_to(site).with_suffix(".md")) for path in site.rglob("*.html")}
    assert made - {"genindex.md", "index.md", "search.md"} == set(documents.NAMES)
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_every_link_leads_somewhere(site: Path) -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    files = setup["metadata"]["url"] + "/blob/HEAD/"
    pages = {file: Page(file) for file in site.rglob("*.html")}
    followed = set()
    for file, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            if link.startswith(files):
                assert (ROOT / link.removeprefix(files)).exists(), (file, link)
            elif not url.scheme:
                assert target.is_file(), (file, link)
                assert target not in pages or url.fragment in pages[target].anchors, (file, link)
            followed.add(link)
    assert {"docs/node.html#without-python", f"{files}examples", f"{files}deploy"} <= followed


def test_sources_elsewhere_are_refused_with_the_command(tmp_path: Path) -> None:
    """As with sphinx-build docs, the usual command."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "docs", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "sphinx-build -c docs . build/site" in done.stderr
