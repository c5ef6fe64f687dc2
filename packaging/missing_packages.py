"""Prints which packages in setup.cfg this Python lacks or has too old, by Debian's names."""

import re
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

setup = ConfigParser(interpolation=None)
setup.read(Path(__file__).resolve().parents[1] / "setup.cfg", encoding="utf-8")
problems = []
for requirement in setup["options"]["install_requires"].split():  # such as sh>=2.2,<3
    name, minimum = requirement.partition(",")[0].split(">=")
    package = f"python3-{name.lower().removeprefix('py')}"
    try:
        installed = version(name)
    except PackageNotFoundError:
        problems.append(f"{package} is missing")
        continue
    actual, required = (list(map(int, re.findall("[0-9]+", x))) for x in (installed, minimum))
    if actual < required:
        problems.append(f"{package} is {installed}, older than {minimum}")
print(", ".join(problems))
