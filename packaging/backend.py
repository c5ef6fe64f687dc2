"""What pyproject.toml has pip build with: setuptools, and before it what setup.cfg names in build/.

That is the man page and the completions, which are its data_files, and the long description.
"""

import re
from configparser import ConfigParser
from pathlib import Path

import manual
from setuptools.build_meta import *  # noqa: F403 - the hooks of PEP 517 and 660 as they are


def absolute(text: str, base: str) -> str:
    """Return Markdown whose links to files of the project lead to their addresses below a base.

    A long description is read where there are no such files. Forges have a page about a file at
    /blob/HEAD, and at /raw/HEAD what a picture is made of. Code has no links.
    """

    def address(found: re.Match[str]) -> str:
        kind = "raw" if str(found[2]).endswith(".svg") else "blob"
        return found[1] or f"]({base}/{kind}/HEAD/{found[2]}"

    code_or_link = r"(^(?: {4}|```).*$|`[^`]+`)|\]\((?![a-z+]+:|#)([^)\s]+)"
    return re.sub(code_or_link, address, text, flags=re.MULTILINE)


def _write_description(target: Path) -> None:
    setup = ConfigParser(interpolation=None)
    setup.read("setup.cfg", encoding="utf-8")
    text = Path("README.md").read_text(encoding="utf-8")
    target.write_text(absolute(text, setup["metadata"]["url"]), encoding="utf-8")


# In the checkout, which is a build's working directory. Each hook runs in a process of its own, and
# each of them reads setup.cfg.
manual.write(Path("build/share"))
_write_description(Path("build/README.md"))
