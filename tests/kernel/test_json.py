"""--json: each command prints the one document that docs/json.md describes."""

import json
import re
from pathlib import Path

import pytest
from command_line import User
from executable import Executable
from runtime import call_environment, network, static
from setup import Setup

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "json.md"
OPTIONS = "-c net.conf --netns container1 --container-id one"
LINES = {
    "add": f"ipvlan add {OPTIONS} --ifname net2 --json",
    "del": f"ipvlan del {OPTIONS} --json",
    "check": f"ipvlan check {OPTIONS} --prev-result result --json",
    "status": "ipvlan status -c net.conf --json",
    "gc": "ipvlan gc -c net.conf one/net1 --json",
    "add --dry-run": f"ipvlan add {OPTIONS} --ifname net2 --dry-run --json",
    "del --dry-run": f"ipvlan del {OPTIONS} --dry-run --json",
    "check --dry-run": f"ipvlan check {OPTIONS} --prev-result result --dry-run --json",
    "gc --dry-run": "ipvlan gc -c net.conf --keep-none --dry-run --json",
    "--dry-run": "ipvlan --dry-run --json <net.conf",
    "validate": "ipvlan validate net.conf --json",
    "show": "ipvlan show --json",
    "doctor": "ipvlan doctor -c net.conf --json",
    "probe": "ipvlan probe --netns container1 --json",
    "trace": "ipvlan trace container1 10.1.0.1 --json",
    "replay": "ipvlan replay /run/captures/* --json",
    "replay --dry-run": "ipvlan replay /run/captures/* --dry-run --json",
    "ipam-answer": "ipvlan ipam-answer --plugin p --cni-version 1.0.0 --mtu 1500 --json <result",
    "--version": "ipvlan --version --json",
}


def read_documented_keys() -> dict[str, set[str]]:
    results = DOCUMENT.read_text().partition("\n## Results\n")[2]
    keys_by_command: dict[str, set[str]] = {}
    for row in results.splitlines():
        cells = row.split("|")
        if len(cells) > 3 and "`" in cells[1]:
            keys = set(re.findall(r"`(.*?)`", cells[2]))
            keys_by_command |= dict.fromkeys(re.findall(r"`(.*?)`", cells[1]), keys)
    return keys_by_command


KEYS = read_documented_keys()


@pytest.mark.setup(master="wire")
@pytest.mark.parametrize("command", KEYS)
def test_a_command_prints_what_is_described(setup: Setup, user: User, command: str) -> None:
    setup.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    at_shell = User(Executable(), user.directory)
    ipam = static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "10.7.0.0/24"}])
    conf = network(ipam=ipam, dns={"nameservers": ["10.1.0.1"]})
    user.write_conf(conf)
    if command not in ("status", "--dry-run"):
        user.write_conf(json.loads(user.check_output(f"ipvlan add {OPTIONS} --json")), "result")
    if command in ("add", "add --dry-run"):
        user.write_conf({**conf, "ipam": static("10.1.0.3/24", routes=[{"dst": "10.8.0.0/24"}])})
    if command.startswith("replay"):
        at_shell.check_output("mkdir /run/captures")
        capture = {"CNI_IPVLAN_CAPTURE": "/run/captures"}
        variables = call_environment("DEL", setup.container, **capture)
        at_shell.check_output("ipvlan <net.conf", **variables)
    environment = call_environment("ADD", setup.container) if command == "--dry-run" else {}
    line = LINES[command]

    out = (at_shell if {*"<*"} & {*line} else user).run(line, **environment)[1]

    assert json.loads(out).keys() == KEYS[command], out
    at_shell.check_output("rm -rf /run/captures")


def test_every_document_is_tried() -> None:
    assert LINES.keys() == KEYS.keys()
