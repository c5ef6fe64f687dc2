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

    Forges have a page about a file at /blob/HEAD, and at /raw/HEAD what a picture is made of.
    """

    def address(found: re.Match[str]) -> str:
        kind = "raw" if str(found[2]).endswith(".svg") else "blob"
        return found[1] or f"]({base}/{kind}/HEAD/{found[2]}"

    code_or_link = r"(^(?: {4}|```).*$|`[^`]+`)|\]\((?![a-z+]+:|#)([^)\s]+)"
    return re.sub(code_or_link, address, text, flags=re.MULTILINE)


# In the checkout, which is a build's working directory. Each hook runs in a process of its own, and
# each of them reads setup.cfg.
manual.write(Path("build/share"))
_setup = ConfigParser(interpolation=None)
_setup.read("setup.cfg", encoding="utf-8")
_readme = absolute(Path("README.md").read_text(encoding="utf-8"), _setup["metadata"]["url"])
Path("build/README.md").write_text(_readme, encoding="utf-8")
