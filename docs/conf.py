"""How Sphinx makes a site of README.md, CHANGELOG.md, SECURITY.md and docs/.

    sphinx-build -c docs . build/site

Its sources are in the project's directory, not in this one, so that links between all of these
documents, which stay as forges show them, and to examples, lead on the site where they lead there.
"""

from __future__ import annotations

import re
import shutil
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ConfigError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parents[1]
_SETUP = ConfigParser(interpolation=None)
_SETUP.read(_ROOT / "setup.cfg", encoding="utf-8")
_FILES = _SETUP["metadata"]["url"] + "/blob/HEAD"

project = "cni-ipvlan"
copyright = "2026 " + _SETUP["metadata"]["author"]  # noqa: A001 - Sphinx has named it
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = [".*", "build", "dist", "*.egg-info", "cni_ipvlan", "tests"]
myst_heading_anchors = 4  # those that forges give to headings
highlight_language = "sh"
html_theme = "alabaster"
html_copy_source = False

# What the README does not list for the margin, since it links to each.
_CONTENTS = """
```{toctree}
:hidden:
:caption: %s

%s
```
"""
_USE = ("configuration", "node", "cluster", "ipam", "dhcp", "host-access", "editors")
_MEND = ("symptoms", "debugging", "errors", "json")
_TRUST = ("reliability", "security", "performance")
_CHANGE = ("contributing", "testing", "lab")


def setup(app: Sphinx) -> None:
    """Have Sphinx call what is below."""
    if Path(app.srcdir) != _ROOT:
        raise ConfigError(f"Build it in {_ROOT}, with: sphinx-build -c docs . build/site")
    app.connect("source-read", _read)
    app.connect("build-finished", _name_the_start)


def _read(_: Sphinx, document: str, source: list[str]) -> None:
    """Change what a document has for a forge to what a site needs."""
    here = (_ROOT / document).parent

    def address(found: re.Match[str]) -> str:
        place = (here / found[1]).resolve()
        return f"]({_FILES}/{place.relative_to(_ROOT)})" if place.is_dir() else found[0]

    source[0] = re.sub(r"\]\(([\w./-]+)\)", address, source[0])
    if document == root_doc:
        parts = {"Use": _USE, "Mend": _MEND, "Rely on": _TRUST, "Take part": _CHANGE}
        for caption, names in parts.items():
            source[0] += _CONTENTS % (caption, "\n".join(f"docs/{name}" for name in names))
        source[0] += _CONTENTS % ("Project", "CHANGELOG\nSECURITY")


def _name_the_start(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")
