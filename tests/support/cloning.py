"""Clones of this checkout, as it is now, whose commits and tags are a test's."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from installing import CHECKOUT, copy_checkout


def make_clone(target: Path) -> Path:
    """Make a clone of one commit, which has this checkout's files as they are now."""
    copy_sources(target)
    git(target, "init", "--quiet")
    commit(target)
    return target


def copy_sources(target: Path) -> Path:
    copy_checkout(target)
    for name in ("docs", "examples"):
        shutil.copytree(CHECKOUT / name, target / name)
    for name in (".gitignore", "CHANGELOG.md", "SECURITY.md"):
        shutil.copy(CHECKOUT / name, target)
    set_version(target, "0.1.0")
    return target


def set_version(checkout: Path, version: str) -> None:
    file = checkout / "cni_ipvlan/__init__.py"
    file.write_text(re.sub('version__ = ".*"', f'version__ = "{version}"', file.read_text()))


def commit(clone: Path) -> str:
    """Commit what there is, if only a message; return the commit's abbreviated hash."""
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "a change")
    return git(clone, "rev-parse", "--short=12", "HEAD")


def git(directory: Path, *arguments: str | Path) -> str:
    """Run git without the user's settings; return what it prints."""
    user = {"NAME": "a tester", "EMAIL": "tester@localhost"}
    settings = {f"GIT_{role}_{key}": user[key] for role in ("AUTHOR", "COMMITTER") for key in user}
    settings |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.check_output(
        ["git", "-C", directory, *arguments], text=True, env={**os.environ, **settings}
    ).strip()
