"""What README.md, SECURITY.md and docs/ have people type, and where each of it is executed.

test_document_commands.py in tests/node and tests/e2e types all blocks that no table here names: in
a clone what starts a file of it, git or man; on a kernel with ipvlan the others. So a new command
needs nothing but to succeed there, or an entry here. Words in capitals are replaced.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import documents

NAMES = [name for name in documents.NAMES if name != "CHANGELOG.md"]

# Values of the words in capitals. The tests make what these name.
PLACEHOLDER_VALUES = {
    "ADDRESS": "10.10.10.1",
    "CAPTURE": "/var/log/cni-ipvlan/calls/*-ADD-*.jsonl",
    "DIR": "wheels",
    "FILE": "front.conf",
    "MASTER": "eth1000",
    "NAME": "web",
    "OTHER": "db",
    "TAG": "v0.0.0",
}

# tests/e2e/test_debugging_document.py and test_dhcp.py type all blocks of these, and compare what
# is printed.
COMPARED_DOCUMENTS = {"docs/debugging.md", "docs/dhcp.md"}

# Commands that are not typed, by where else they are executed, or why nowhere.
EXEMPTIONS = {
    "tests/e2e/test_cri.py and tests/node/test_deploy.py have a containerd": r"ctr .*",
    "tests/node/test_bundle.py uses a bundle": (
        r"(sudo |tar -xJf )cni-ipvlan-VERSION-linux-ARCH.*|ipvlan add … --dry-run \| .*"
    ),
    "tests/node has tests of these": r"scripts/(bench|build-\w+|demo|lab-check)( .*)?",
    "tests/vagrant needs virtual machines": (
        r"(.* )?vagrant .*|scripts/provision-\w+ .*|tox -e vagrant"
    ),
    "tests/node/test_newcomer.py clones it": r"git clone .*",
    "sphinx is only there for it": r"\.venv/bin/sphinx-build .*",
    "only one run of the tests is possible in a clone": r"(.* )?scripts/test( .*)?",
    "it needs a Kubernetes, or a registry": r"(kubectl|skopeo) .*",
}

# Options with which a command is typed here, so that it ends soon.
EXTRA_OPTIONS = {
    ".venv/bin/pytest tests/unit -k mtu": "--collect-only",
    "scripts/lab-kernel .venv/bin/pytest tests/kernel -k mtu": "--collect-only",
}

_IN_A_CLONE = re.compile(r"(?:sudo |\w+=\S+ )*(?:scripts/|\.venv/|git |man )")
_CAPITALS = re.compile(r"(?<![\w/.:-])[A-Z]{2,}(?![\w/.:=-])")


# The tests are root already, so sudo runs the command itself.
BASH = ("bash", "-c", 'sudo() { "$@"; }; eval "$1"', "bash")


class Command(NamedTuple):
    """A command as it is written, without its comment, and what it is shown to print."""

    text: str
    document: str
    section: str
    printed: tuple[str, ...] = ()

    @property
    def tier(self) -> str | None:
        """The tests that type it, if no table has another place for it."""
        is_elsewhere = any(re.fullmatch(each, self.text) for each in EXEMPTIONS.values())
        if self.document in COMPARED_DOCUMENTS or is_elsewhere:
            return None
        return "node" if _IN_A_CLONE.match(self.text) else "e2e"

    @property
    def line(self) -> str:
        line = _CAPITALS.sub(lambda match: PLACEHOLDER_VALUES[match[0]], self.text)
        return f"{line} {EXTRA_OPTIONS.get(self.text, '')}".rstrip()


def read_commands(document: str) -> Iterator[Command]:
    for code in documents.code(document):
        yield from _find_commands(code, document)


def find_commands_of_tier(tier: str) -> dict[str, list[Command]]:
    """Return the commands that a tier types, by document, each once."""
    result: dict[str, list[Command]] = {}
    lines: set[str] = set()
    for document in NAMES:
        for command in read_commands(document):
            if command.tier == tier and command.line not in lines:
                lines.add(command.line)
                result.setdefault(document, []).append(command)
    return result


def _find_commands(block: documents.Code, document: str) -> Iterator[Command]:
    """Return the commands of a block in sh: its lines, in a session those behind a dollar sign."""
    if block.language != "sh":
        return
    lines = [line for line in block.text.splitlines() if line]
    is_session = lines[0].startswith("$ ")
    while lines:
        text = re.sub(r"(^|\s+)#\s.*", "", lines.pop(0).removeprefix("$ "))
        printed = []
        while is_session and lines and not lines[0].startswith("$ "):
            printed.append(lines.pop(0))
        yield Command(text, document, block.section, printed=tuple(printed))
