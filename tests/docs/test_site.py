"""The site that Sphinx makes of the documents, with every warning an error: dead links, too."""

import re
import subprocess
import sys
from pathlib import Path

import documents
import pytest

ROOT = documents.ROOT


def run_sphinx(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "sphinx", "-q", *arguments)
    return subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as docs/contributing.md says, with warnings as errors, and elsewhere."""
    directory = tmp_path_factory.mktemp("site")
    strictly = ("-W", "--keep-going", "-n", "-d", directory / "doctrees")
    done = run_sphinx(*strictly, "-c", "docs", ".", directory / "html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return directory / "html"


def test_every_document_is_a_page(site: Path) -> None:
    pages = {str(path.relative_to(site).with_suffix(".md")) for path in site.rglob("*.html")}
    assert pages - {"genindex.md", "index.md", "search.md"} == set(documents.NAMES)
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_links_to_documents_lead_to_pages_and_others_to_the_projects_files(site: Path) -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    assert 'href="docs/node.html#without-python"' in texts
    files = re.findall(r'href="[^"#]*/blob/HEAD/([^"#]*)', texts)
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert {"examples", "deploy"} <= set(files)


def test_sources_elsewhere_are_refused_with_the_command(tmp_path: Path) -> None:
    """As with sphinx-build docs, the usual command."""
    done = run_sphinx("docs", tmp_path)
    assert done.returncode == 2
    assert "sphinx-build -c docs . build/site" in done.stderr
