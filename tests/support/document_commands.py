"""What README.md, SECURITY.md and docs/ have people type, and where each of it is executed.

test_document_commands.py in tests/node and tests/e2e types all that no table here names: in a
clone what starts a file of it, git or man; on a kernel with ipvlan the others. Words in capitals
are replaced. A command that a sentence only names is not typed. So a new command needs nothing
but to succeed there, or an entry here.
"""

from __future__ import annotations

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

# Tests that type all blocks of a document themselves, and compare what is printed.
BLOCKS = {
    "docs/debugging.md": "tests/e2e/test_debugging_document.py::"
    "test_commands_of_a_section_print_what_it_shows",
    "docs/dhcp.md": "tests/e2e/test_dhcp.py::test_debians_units_are_started_as_the_document_says",
}

# Other tests, and what they execute, with options of their own.
ELSEWHERE = {
    "tests/e2e/test_containerd.py::test_containers_have_addresses_and_reach_each_other": (
        "ctr run --cni",
        "ctr run --rm --cni --rootfs DIR ID COMMAND",
    ),
    "tests/e2e/test_containerd.py::test_a_detached_container_keeps_its_address_until_deleted": (
        "ctr run --detach",
    ),
    "tests/e2e/test_dhcp.py::test_the_unit_for_nodes_without_debians_serves_also_after_a_kill": (
        "/opt/cni/bin/dhcp daemon",
    ),
    "tests/node/test_deb.py::test_build_prints_the_command_that_installs_the_package": (
        "scripts/build-deb",
    ),
    "tests/node/test_deb.py::test_installed_used_upgraded_and_removed": (
        "apt-get remove cni-ipvlan",
    ),
    "tests/node/test_demo.py::test_demo_shows_each_ping_with_its_output": ("scripts/demo",),
    "tests/node/test_lab.py::test_two_nodes_in_miniature_pass_the_lab_check": (
        "scripts/lab-check --miniature",
    ),
    "tests/node/test_bundle.py::test_it_installs_itself_on_a_node_without_python": (
        "sudo cni-ipvlan-VERSION-linux-ARCH/scripts/install-node",
        "tar -xJf cni-ipvlan-VERSION-linux-ARCH.tar.xz",
    ),
    "tests/node/test_bundle.py::test_it_works_in_a_root_that_has_nothing_else": (
        "ipvlan add … --dry-run | /opt/cni-ipvlan-…/programs/sh",
    ),
    "tests/node/test_bundle.py::test_same_commit_gives_the_same_archive_wherever_and_whenever": (
        "scripts/build-bundle",
    ),
    "tests/node/test_deploy.py::test_pod_is_ready_while_the_plugin_is_there_and_answers": (
        "ctr --namespace k8s.io image import FILE",
        "ctr --namespace k8s.io image import cni-ipvlan-VERSION.oci.tar",
    ),
    "tests/node/test_image.py::test_same_bundle_gives_the_same_image": ("scripts/build-image",),
    "tests/node/test_lab.py::test_vagrantfile_is_valid_and_checks_its_variables": (
        "vagrant validate",
    ),
    "tests/node/test_lab_kernel.py::test_bench_works_in_a_fresh_clone": (
        "scripts/bench",
        "scripts/bench --imports",
        "scripts/bench --native",
    ),
    "tests/unit/cli/test_output.py::test_fish_completes": (
        "_IPVLAN_COMPLETE=fish_source ipvlan | source",
    ),
    "tests/unit/test_site.py::test_every_document_is_a_page": (
        ".venv/bin/sphinx-build -c docs . build/site",
    ),
    "tests/vagrant/test_lab.py::test_people_find_the_command": ("vagrant ssh node1",),
    "tests/vagrant/test_lab.py::test_provisioning_again_takes_the_changed_working_tree": (
        "vagrant provision",
        "vagrant rsync",
        "vagrant rsync && vagrant provision",
    ),
    "tests/vagrant/test_lab.py::test_up_then_lab_check_passes": (
        "LAB_BOX=cni-ipvlan/lab vagrant up",
        "scripts/lab-check",
        "scripts/provision-network --interface 52:54:00:10:00:01 --address 10.10.10.101/24",
        "scripts/provision-node --range 10.10.10.20-10.10.10.39",
        "vagrant destroy",
        "vagrant up",
    ),
}

MULTUS = (
    "https://raw.githubusercontent.com/k8snetworkplumbingwg/multus-cni/master/"
    "deployments/multus-daemonset-thick.yml"
)
PUSHED = "registry.example/cni-ipvlan:0.1.0"
IN_THE_NODE = "-- chroot /host /opt/cni-ipvlan/bin/ipvlan doctor"
# Why nothing executes the rest.
NOT_EXECUTED = {
    "it starts the tests, and only one run at a time is possible in a clone": (
        ".venv/bin/ruff format . && scripts/test",
        "scripts/test",
        "scripts/test faults",
        "scripts/test kernel -k mtu",
        "scripts/test lint",
        "scripts/test unit -k mtu",
        "scripts/test --long",
        "scripts/test --long node -k newcomer",
        "NEWER=dhcp scripts/test node -k newer_dhcp",
        "ROOTS='bookworm noble' scripts/test node -k newcomer",
        "scripts/test --long faults",
        "tox -e vagrant",
    ),
    "it takes too long for every day": (
        "scripts/bench --growth",
        "scripts/bench --native --executable BUNDLE/bin/ipvlan --against VENV/bin/ipvlan",
        "scripts/bench --storm",
        "scripts/endurance",
        "scripts/fuzz 60",
        "scripts/fuzz model 60",
    ),
    "it needs a Kubernetes": (
        "kubectl --namespace cni-ipvlan exec POD -- cat /var/log/cni-ipvlan/FILE",
        "kubectl --namespace cni-ipvlan rollout status daemonset/cni-ipvlan",
        "kubectl apply -f examples/ipvlan0.yaml",
        "kubectl apply -f examples/ipvlan0.yaml -f examples/ipvpod0.yaml",
        f"kubectl apply -f {MULTUS}",
        "kubectl apply -k my-cluster",
        "kubectl debug",
        f"kubectl debug node/NODE -it --profile=sysadmin --image={PUSHED} {IN_THE_NODE}",
        "kubectl delete -k my-cluster",
        "kubectl describe pod",
        "kubectl logs",
    ),
    "it needs a registry": (
        f"skopeo copy oci-archive:dist/cni-ipvlan-0.1.0.oci.tar docker://{PUSHED}",
    ),
    "it needs nerdctl, of which Debian has no package": ("nerdctl network create -d ipvlan",),
    "it was run by hand; tests/vagrant restarts a node with vagrant reload": ("vagrant halt",),
    "it is for a person's own user": ("sudo adduser NAME libvirt",),
    "it needs a machine whose systemd runs containerd": ("systemctl restart containerd",),
}
_TABLES = (ELSEWHERE, NOT_EXECUTED)
PLACED = [text for table in _TABLES for texts in table.values() for text in texts]

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
        if self.is_only_named:
            return None
        if self.is_in_block and self.document in BLOCKS:
            return None
        if self.text in PLACED:
            return None
        return "node" if _IN_A_CLONE.match(self.text) else "e2e"

    @property
    def is_only_named(self) -> bool:
        return not self.is_in_block and bool(_NAME.fullmatch(self.text))

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
