"""What README.md, SECURITY.md and docs/ have people type, and where each of it is executed.

test_document_commands.py in tests/node and tests/e2e types all that no table here names: in a
clone what starts a file of it, git or man; on a kernel with ipvlan the others. Words in capitals
are replaced. A command that a sentence only names is not typed. So a new command needs nothing
but to succeed there, or an entry here.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import documents

NAMES = [name for name in documents.NAMES if name != "CHANGELOG.md"]

# What stands there for a word in capitals. The tests make what these name.
VALUES = {
    "ADDRESS": "10.10.10.1",
    "CAPTURE": "/var/log/cni-ipvlan/calls/*-ADD-*.json",
    "COMMANDS": "commands",
    "CONFIGURATION": "front.conf",
    "DIR": "wheels",
    "FILE": "front.conf",
    "MASTER": "eth1000",
    "NAME": "web",
    "OTHER": "db",
    "TAG": "v0.0.0",
}

# Code in sentences that has spaces and is no command: what is printed, written, or typed as a part.
WORDS = {
    "## [0.2.0] - YYYY-MM-DD",
    '"captureDir": "calls"',
    '"match-client-id": false',
    '"master": ["eth1", "ens*"]',
    '["eth1", "ens*"]',
    '"routes": [{"dst": "10.96.0.0/12", "gw": "10.10.100.200"}]',
    "Address already assigned to an ipvlan device",
    "Private :: Do Not Upload",
    "could not be undone: …",
    "error calling DHCP.Allocate: no more tries",
    "error dialing DHCP daemon: dial unix /run/cni/dhcp.sock: … no such file or directory",
    "if dry_run",
    "ipam.type: ipvlan",
    "set -x",
    # commands of others, by their names
    "apt-get --simulate",
    "arping -D",
    "ip -batch",
    "ip link add",
    "ip link set netns",
    "ip netns exec",
    "ip route add",
    "pip install --user",
    "python -m build",
    # those of ipvlan, in docs/json.md
    "add --dry-run",
    "check --dry-run",
    "del --dry-run",
    "gc --dry-run",
    "replay --dry-run",
}

# tests/e2e/test_debugging_document.py and test_dhcp.py type all blocks of these, and compare what
# is printed.
BLOCKS = {"docs/debugging.md", "docs/dhcp.md"}

# What is not typed, and where else it is executed, or why nowhere.
ELSEWHERE = {
    "tests/e2e/test_cri.py and tests/node/test_deploy.py have a containerd": r"ctr .*",
    "tests/e2e/test_dhcp.py starts the daemon": r"/opt/cni/bin/dhcp daemon",
    "tests/node/test_bundle.py uses a bundle": (
        r"(sudo |tar -xJf )cni-ipvlan-VERSION-linux-ARCH.*|ipvlan add … --dry-run \| .*"
    ),
    "tests/node/test_deb.py removes the package": r"apt-get remove cni-ipvlan",
    "tests/node has tests of these": r"scripts/(bench|build-\w+|demo|lab-check)( .*)?",
    "tests/vagrant needs virtual machines": (
        r"(.* )?vagrant .*|scripts/provision-\w+ .*|tox -e vagrant"
    ),
    "sphinx is only there for it": r"\.venv/bin/sphinx-build .*",
    "tests/attacks/test_hidden_links.py does what it says": r"ip link add link MASTER .*",
    "it needs another shell than bash": r"_IPVLAN_COMPLETE=fish_source .*",
    "only one run of the tests is possible in a clone": r"(.* )?scripts/test( .*)?",
    "it takes too long for every day": r"scripts/(endurance|fuzz)( .*)?",
    "it needs a Kubernetes, or a registry": r"(kubectl|skopeo) .*",
    "it needs nerdctl, of which Debian has no package": r"nerdctl .*",
    "it is for a person's own user": r"sudo adduser .*",
    "it needs a machine whose systemd runs containerd": r"systemctl restart containerd",
}

# Options with which a command is typed here, so that it ends soon.
SHORTENED = {
    ".venv/bin/pytest tests/unit -k mtu": "--collect-only",
    "scripts/lab-kernel .venv/bin/pytest tests/kernel -k mtu": "--collect-only",
}

_IN_A_CLONE = re.compile(r"(?:sudo |\w+=\S+ )*(?:scripts/|\.venv/|git |man )")
_NAME = re.compile(r"scripts/[\w-]+|ipvlan [a-z]+(?: …)?")
_CAPITALS = re.compile(r"(?<![\w/.:-])[A-Z]{2,}(?![\w/.:=-])")


# Who types is root already.
BASH = ("bash", "-c", 'sudo() { "$@"; }; eval "$1"', "bash")


class Command(NamedTuple):
    """A command as it is written, without its comment, and what it is shown to print."""

    text: str
    document: str
    section: str
    is_in_block: bool
    printed: tuple[str, ...] = ()

    @property
    def tier(self) -> str | None:
        """The tests that type it, if no table has another place for it."""
        is_only_named = not self.is_in_block and _NAME.fullmatch(self.text)
        is_compared = self.is_in_block and self.document in BLOCKS
        is_elsewhere = any(re.fullmatch(each, self.text) for each in ELSEWHERE.values())
        if is_only_named or is_compared or is_elsewhere:
            return None
        return "node" if _IN_A_CLONE.match(self.text) else "e2e"

    @property
    def line(self) -> str:
        """What is typed for it."""
        line = _CAPITALS.sub(lambda found: VALUES[found[0]], self.text)
        return f"{line} {SHORTENED.get(self.text, '')}".rstrip()


def commands(document: str) -> Iterator[Command]:
    """Return the commands of a document, in its order."""
    for code in documents.code(document):
        if code.is_block:
            yield from _typed_in(code, document)
        elif is_command(code.text):
            yield Command(code.text, document, code.section, is_in_block=False)


def is_command(text: str) -> bool:
    """Whether code in a sentence is a command: it has arguments, or is one of the scripts."""
    return text not in WORDS and not text.startswith("-") and bool(re.search(r" |^scripts/", text))


def typed_in(tier: str) -> dict[str, list[Command]]:
    """Return the commands that a tier types, by document, each once."""
    found: dict[str, list[Command]] = {}
    lines: set[str] = set()
    for document in NAMES:
        for command in commands(document):
            if command.tier == tier and command.line not in lines:
                lines.add(command.line)
                found.setdefault(document, []).append(command)
    return found


def _typed_in(block: documents.Code, document: str) -> Iterator[Command]:
    """Return the commands of a block in sh.

    Each line is one; in a session each line behind a dollar sign, and the others are printed.
    """
    if block.language != "sh":
        return
    lines = [line for line in block.text.splitlines() if line]
    is_session = lines[0].startswith("$ ")
    while lines:
        text = re.sub(r"(^|\s+)#\s.*", "", lines.pop(0).removeprefix("$ "))
        printed = []
        while is_session and lines and not lines[0].startswith("$ "):
            printed.append(lines.pop(0))
        yield Command(text, document, block.section, is_in_block=True, printed=tuple(printed))
