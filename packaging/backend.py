"""The build backend in pyproject.toml: setuptools, and what makes the files of setup.cfg in build/.

These are the man page and the completions, which are its data_files, and the long description.
"""

import re
from configparser import ConfigParser
from pathlib import Path

import manual
from setuptools.build_meta import *  # noqa: F403 - the hooks of PEP 517 and 660 as they are


def make_links_absolute(text: str, base: str) -> str:
    """Return Markdown whose links to files of the project lead to addresses below a base.

    Forges have a page about a file at /blob/HEAD, and the file itself, for pictures, at /raw/HEAD.
    """

    def replace_link(match: re.Match[str]) -> str:
        kind = "raw" if str(match[2]).endswith(".svg") else "blob"
        return match[1] or f"]({base}/{kind}/HEAD/{match[2]}"

    code_or_link = r"(^(?: {4}|```).*$|`[^`]+`)|\]\((?![a-z+]+:|#)([^)\s]+)"
    return re.sub(code_or_link, replace_link, text, flags=re.MULTILINE)


# The working directory is the checkout. Each hook of a build runs in a process of its own, which
# reads setup.cfg, so each process makes these files.
manual.write_files(Path("build/share"))
_setup = ConfigParser(interpolation=None)
_setup.read("setup.cfg", encoding="utf-8")
_readme = Path("README.md").read_text(encoding="utf-8")
_description = make_links_absolute(_readme, _setup["metadata"]["url"])
Path("build/README.md").write_text(_description, encoding="utf-8")
