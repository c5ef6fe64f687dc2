"""Prints which of the packages in setup.cfg this Python lacks or has too old, by Debian's names."""

import re
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

setup = ConfigParser(interpolation=None)
setup.read(Path(__file__).resolve().parents[1] / "setup.cfg", encoding="utf-8")
wrong = []
for requirement in setup["options"]["install_requires"].split():  # such as sh>=2.2,<3
    name, least = requirement.partition(",")[0].split(">=")
    debian = f"python3-{name.lower().removeprefix('py')}"
    try:
        found = version(name)
    except PackageNotFoundError:
        wrong.append(f"{debian} is missing")
        continue
    numbers, needed = ([int(each) for each in re.findall("[0-9]+", x)] for x in (found, least))
    if numbers < needed:
        wrong.append(f"{debian} is {found}, older than {least}")
print(", ".join(wrong))
