"""One build step that setup.cfg has no word for; everything else is there."""

import shlex
import sys
from pathlib import Path

from setuptools import setup  # before distutils, which it brings along

from distutils.command.build_scripts import build_scripts  # isort: skip


class BuildScripts(build_scripts):
    """Tells the launcher which interpreter installs it, for the day it is copied elsewhere."""

    def run(self) -> None:
        """Copies the scripts, then fills in the interpreter."""
        self.force = True  # or the one of an earlier build, for another interpreter, stays
        super().run()
        launcher = Path(self.build_dir, "ipvlan")
        text = launcher.read_text(encoding="utf-8")
        python = shlex.quote(sys.executable)
        launcher.write_text(text.replace("@PYTHON@", python), encoding="utf-8")


setup(cmdclass={"build_scripts": BuildScripts})
